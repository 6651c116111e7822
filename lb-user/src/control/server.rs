//! The agent's end of the control socket.

use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net;
use std::path::{Path, PathBuf};

use nix::fcntl::{Flock, FlockArg};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{broadcast, mpsc};
use tokio::task::spawn_blocking;
use tokio_util::task::AbortOnDropHandle;

use super::calls::{Call, call, conntrack_snapshot, stopping};
use super::entries::{self, Entry};
use super::error::Error;
use super::event_log::EventLog;
use super::protocol::{Event, Request, Response};
use super::selection::Selection;
use lb_dataplane::{Connection, PersistentClient};

/// Length of the longest request that is read.
const MAX_REQUEST_BYTES: u64 = 64 * 1024;

/// Listens for requests until it is dropped; then the socket is gone.
#[derive(Debug)]
pub struct Server {
    path: PathBuf,
    _task: AbortOnDropHandle<()>,
}

impl Server {
    /// Starts to listen; requests are sent to `calls`. Only the socket's owner
    /// and group may connect.
    ///
    /// # Errors
    /// Another agent listens there, or the socket cannot be made.
    pub async fn start(
        path: &Path,
        calls: mpsc::Sender<Call>,
        events: EventLog,
    ) -> Result<Self, Error> {
        let failed = |source| Error::Listen {
            path: path.to_owned(),
            source,
        };
        let directory = match path.parent() {
            Some(directory) if !directory.as_os_str().is_empty() => directory,
            _ => Path::new("."),
        };
        fs::create_dir_all(directory).map_err(failed)?;
        // Of two agents that start at once, the later one would take the earlier
        // one's new socket for the stale one that it has seen before.
        let directory = fs::File::open(directory).map_err(failed)?;
        let _alone = Flock::lock(directory, FlockArg::LockExclusive)
            .map_err(|(_, errno)| failed(errno.into()))?;
        remove_stale(path)?;
        let listener = UnixListener::bind(path).map_err(failed)?;
        fs::set_permissions(path, fs::Permissions::from_mode(0o660)).map_err(failed)?;
        Ok(Self {
            path: path.to_owned(),
            _task: AbortOnDropHandle::new(tokio::spawn(accept(listener, calls, events))),
        })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_file(&self.path) {
            log::warn!("cannot remove {}: {error}", self.path.display());
        }
    }
}

/// Removes the socket that an agent left which was killed.
fn remove_stale(path: &Path) -> Result<(), Error> {
    let Ok(metadata) = fs::symlink_metadata(path) else {
        return Ok(());
    };
    if !metadata.file_type().is_socket() {
        return Err(Error::NotASocket(path.to_owned()));
    }
    if net::UnixStream::connect(path).is_ok() {
        return Err(Error::InUse(path.to_owned()));
    }
    fs::remove_file(path).map_err(|source| Error::Listen {
        path: path.to_owned(),
        source,
    })
}

async fn accept(listener: UnixListener, calls: mpsc::Sender<Call>, events: EventLog) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                let (calls, events) = (calls.clone(), events.clone());
                tokio::spawn(async move {
                    if let Err(error) = serve(stream, calls, events).await {
                        log::debug!("control connection: {error}");
                    }
                });
            }
            Err(error) => {
                log::warn!("control socket: {error}");
                tokio::time::sleep(std::time::Duration::from_secs(1)).await;
            }
        }
    }
}

async fn serve(stream: UnixStream, calls: mpsc::Sender<Call>, events: EventLog) -> io::Result<()> {
    let (reader, mut writer) = stream.into_split();
    let mut reader = BufReader::new(reader);
    loop {
        let mut line = String::new();
        if (&mut reader)
            .take(MAX_REQUEST_BYTES)
            .read_line(&mut line)
            .await?
            == 0
        {
            return Ok(());
        }
        let response = match serde_json::from_str(&line) {
            Ok(Request::Follow) => return follow(reader, writer, events.follow()).await,
            Ok(Request::Watch) => {
                let (latest, events) = events.follow_with_latest();
                for event in latest {
                    write_line(&mut writer, &Response::Event(event)).await?;
                }
                return follow(reader, writer, events).await;
            }
            Ok(Request::Connections(selection)) => {
                send_entries::<Connection>(&mut writer, selection, &calls).await?;
                continue;
            }
            Ok(Request::PersistentClients(selection)) => {
                send_entries::<PersistentClient>(&mut writer, selection, &calls).await?;
                continue;
            }
            Ok(request) => call(request, &calls).await,
            Err(error) => Response::Refused(format!("not a request: {error}")),
        };
        write_line(&mut writer, &response).await?;
    }
}

/// Sends events until the follower goes, or says something more.
async fn follow(
    mut reader: BufReader<OwnedReadHalf>,
    mut writer: OwnedWriteHalf,
    mut events: broadcast::Receiver<Event>,
) -> io::Result<()> {
    loop {
        let event = tokio::select! {
            event = events.recv() => event,
            // A follower's next word, or its end, ends the following.
            read = reader.fill_buf() => return read.map(drop),
        };
        match event {
            Ok(event) => write_line(&mut writer, &Response::Event(event)).await?,
            Err(RecvError::Lagged(missed)) => {
                let message = format!("{missed} events missed: the follower is too slow");
                write_line(&mut writer, &Response::Refused(message)).await?;
            }
            Err(RecvError::Closed) => return Ok(()),
        }
    }
}

/// Sends every selected entry, a line for some at a time.
async fn send_entries<E: Entry>(
    writer: &mut OwnedWriteHalf,
    selection: Selection,
    calls: &mpsc::Sender<Call>,
) -> io::Result<()> {
    /// Lines that may wait for a slow reader.
    const WAITING: usize = 2;
    let Some(snapshot) = conntrack_snapshot(calls).await else {
        return write_line(writer, &stopping()).await;
    };
    let (sender, mut answers) = mpsc::channel(WAITING);
    spawn_blocking(move || entries::send_all::<E>(&snapshot, &selection, &sender));
    while let Some(answer) = answers.recv().await {
        write_line(writer, &answer).await?;
    }
    Ok(())
}

async fn write_line(writer: &mut OwnedWriteHalf, response: &Response) -> io::Result<()> {
    let mut line = serde_json::to_string(response)?;
    line.push('\n');
    writer.write_all(line.as_bytes()).await
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::{Client, request};

    /// An agent that answers every request with `response`.
    fn agent(response: Response) -> mpsc::Sender<Call> {
        let (sender, mut calls) = mpsc::channel::<Call>(1);
        tokio::spawn(async move {
            while let Some(Call::Request(_, answer)) = calls.recv().await {
                let _ = answer.send(response.clone());
            }
        });
        sender
    }

    #[tokio::test]
    async fn a_request_is_answered_and_the_socket_goes_with_the_server() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("deeper/agent.sock");
        let response = Response::Done(vec!["read".to_owned()]);
        let server = Server::start(&path, agent(response.clone()), EventLog::default())
            .await
            .expect("it listens");
        assert_eq!(
            request(&path, &Request::Reload).await.expect("an answer"),
            response
        );
        let mode = fs::metadata(&path)
            .expect("the socket")
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o660, "no one else may connect");
        drop(server);
        assert!(!path.exists());
    }

    #[tokio::test]
    async fn two_agents_do_not_share_a_socket_but_a_dead_one_leaves_it() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("agent.sock");
        let calls = agent(Response::Done(Vec::new()));
        let first = Server::start(&path, calls.clone(), EventLog::default())
            .await
            .expect("it listens");
        let second = Server::start(&path, calls.clone(), EventLog::default()).await;
        assert!(matches!(second, Err(Error::InUse(_))), "{second:?}");
        drop(first);

        drop(std::os::unix::net::UnixListener::bind(&path).expect("a socket, then nobody's"));
        Server::start(&path, calls.clone(), EventLog::default())
            .await
            .expect("a stale socket is replaced");

        fs::write(&path, "").expect("a file");
        let on_file = Server::start(&path, calls, EventLog::default()).await;
        assert!(matches!(on_file, Err(Error::NotASocket(_))), "{on_file:?}");
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn of_agents_that_start_at_once_one_listens() {
        for _ in 0..50 {
            let directory = tempfile::tempdir().expect("a directory");
            let path = directory.path().join("agent.sock");
            drop(net::UnixListener::bind(&path).expect("a socket, then nobody's"));
            let starts = [(); 4].map(|()| {
                let path = path.clone();
                tokio::spawn(async move {
                    let calls = agent(Response::Done(Vec::new()));
                    Server::start(&path, calls, EventLog::default()).await
                })
            });
            let mut servers = Vec::new();
            for start in starts {
                match start.await.expect("it does not panic") {
                    Ok(server) => servers.push(server),
                    Err(error) => assert!(matches!(error, Error::InUse(_)), "{error}"),
                }
            }
            assert_eq!(servers.len(), 1);
            request(&path, &Request::Health).await.expect("it answers");
        }
    }

    /// A client that follows the events of a server, which runs in `directory`.
    async fn follower(directory: &tempfile::TempDir, events: &EventLog) -> (Server, Client) {
        let path = directory.path().join("agent.sock");
        let calls = agent(Response::Done(Vec::new()));
        let server = Server::start(&path, calls, events.clone())
            .await
            .expect("it listens");
        let mut client = Client::connect(&path).await.expect("connected");
        client.send(&Request::Follow).await.expect("sent");
        while events.follower_count() == 0 {
            tokio::task::yield_now().await;
        }
        (server, client)
    }

    #[tokio::test]
    async fn a_follower_is_told_of_every_change() {
        let directory = tempfile::tempdir().expect("a directory");
        let events = EventLog::default();
        let (_server, mut client) = follower(&directory, &events).await;
        for message in ["one", "two"] {
            let event = Event {
                time_ms: 1,
                message: message.to_owned(),
                ..Event::default()
            };
            events.publish(event.clone());
            let told = client.receive().await.expect("an answer");
            assert_eq!(told, Some(Response::Event(event)));
        }
    }

    #[tokio::test]
    async fn a_watcher_is_told_first_of_what_came_before() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("agent.sock");
        let events = EventLog::default();
        let event = |message: &str| Event {
            time_ms: 1,
            message: message.to_owned(),
            ..Event::default()
        };
        events.publish(event("before"));
        let calls = agent(Response::Done(Vec::new()));
        let _server = Server::start(&path, calls, events.clone())
            .await
            .expect("it listens");
        let mut client = Client::connect(&path).await.expect("connected");
        client.send(&Request::Watch).await.expect("sent");
        let mut told = async || client.receive().await.expect("an answer");
        assert_eq!(told().await, Some(Response::Event(event("before"))));
        events.publish(event("after"));
        assert_eq!(told().await, Some(Response::Event(event("after"))));
    }

    #[tokio::test]
    async fn a_follower_that_goes_is_forgotten_without_an_event() {
        let directory = tempfile::tempdir().expect("a directory");
        let events = EventLog::default();
        let (_server, client) = follower(&directory, &events).await;
        drop(client);
        while events.follower_count() > 0 {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn what_is_no_request_is_refused_and_the_next_one_served() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("agent.sock");
        let calls = agent(Response::Done(Vec::new()));
        let _server = Server::start(&path, calls, EventLog::default())
            .await
            .expect("it listens");
        let mut stream = BufReader::new(UnixStream::connect(&path).await.expect("connected"));
        let mut answers = Vec::new();
        for line in ["{\"command\":\"dance\"}\n", "{\"command\":\"reload\"}\n"] {
            stream.write_all(line.as_bytes()).await.expect("written");
            let mut answer = String::new();
            stream.read_line(&mut answer).await.expect("read");
            answers.push(serde_json::from_str::<Response>(&answer).expect("an answer"));
        }
        assert!(matches!(answers[0], Response::Refused(_)), "{answers:?}");
        assert_eq!(answers[1], Response::Done(Vec::new()));
    }
}
