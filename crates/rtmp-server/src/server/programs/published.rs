//! The programs of a published stream (`transcode`, `exec`): they run while it is published.

use std::borrow::Cow;
use std::collections::hash_map::Entry;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use jiff::Timestamp;
use rtmp_proto::session::{Parameters, StreamKey};
use service_kit::process::Program;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::output::{Output, forget_former, has_ended, is_output, leads_here};
use super::{Unobserved, fill_in_time, of_stream, supervise};
use crate::config::{
    Config, Engine, ExecProgram, Transcode, Vhost, at_listener, host, named_stream, port,
};
use crate::server::Server;
use crate::server::client::{Client, ClientUrls};
use crate::stream::{Stream, StreamState, lock};

/// What the variables of `exec` say of a publisher.
#[derive(Debug, Clone, Default)]
pub(super) struct Publisher {
    parameters: Parameters,
    tc_url: String,
    swf_url: String,
    page_url: String,
}

impl Publisher {
    fn new(client: &Client, parameters: &Parameters) -> Self {
        let none = ClientUrls::default();
        let urls = client.urls().unwrap_or(&none);
        Self {
            parameters: parameters.clone(),
            tc_url: urls.tc_url.to_string(),
            swf_url: urls.swf_url.to_string(),
            page_url: urls.page_url.to_string(),
        }
    }
}

/// A program that is to run, and what its variables stand for.
#[derive(Debug, Clone)]
struct Wanted {
    facts: Arc<Facts>,
    work: Work,
}

/// The programs of one stream that are kept running.
#[derive(Default)]
struct Running(Vec<RunningProgram>);

struct RunningProgram {
    wanted: Wanted,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

/// A template which with a publisher's own words would say something else.
#[derive(Debug, PartialEq, Eq)]
struct Unsafe(String);

#[derive(Debug, Clone)]
enum Work {
    /// An engine of a `transcode`, with the path of its ffmpeg.
    Transcode(String, Box<Engine>),
    Exec(ExecProgram),
}

impl Wanted {
    fn name(&self) -> String {
        match &self.work {
            Work::Transcode(_, engine) => format!("transcode {}", engine.name),
            Work::Exec(_) => "exec".to_owned(),
        }
    }

    /// The program, for a start at `now`; `None`: the variables of the time are left.
    fn program(&self, now: Option<Timestamp>) -> Result<Program, Unsafe> {
        match &self.work {
            Work::Transcode(path, engine) => self.facts.transcode(path, engine, now),
            Work::Exec(exec) => self.facts.exec(exec, now),
        }
    }

    /// True if `other` runs in the same way, whoever publishes and whenever it starts.
    fn is_same(&self, other: &Self) -> bool {
        self.name() == other.name() && self.program(None) == other.program(None)
    }

    /// The URL that a `transcode` publishes at.
    fn output(&self, now: Timestamp) -> Option<String> {
        match self.work {
            Work::Transcode(..) => self.program(Some(now)).ok()?.arguments.pop(),
            Work::Exec(_) => None,
        }
    }

    /// Keeps it running until `stop`.
    async fn run(self, server: Arc<Server>, stop: CancellationToken) {
        let key = &self.facts.key;
        let listen = server.config().listen.clone();
        let output = self.output(Timestamp::now()).unwrap_or_default();
        let is_here = leads_here(&output, &listen).await;
        let made = Mutex::new(None);
        let make = |now| {
            let unsafe_in = |Unsafe(template)| {
                log::warn!(
                    "{key}: no program is run, since what its publisher says of it is not safe \
                     in `{template}`"
                );
            };
            let program = self.program(Some(now)).map_err(unsafe_in).ok()?;
            let output = program.arguments.last().filter(|_| is_here);
            if let Some(output) = output.and_then(|url| named_stream(url)) {
                let output = resolved(&server.config(), output);
                // One that overwrites its own input would never end.
                if output == *key {
                    log::warn!("{key}: is not transcoded to itself");
                    return None;
                }
                *lock(&made) = Some(Output::new(&server.programs, output));
            }
            Some(program)
        };
        let name = format!("{key}: {}", self.name());
        supervise(server.clone(), name, &make, &Unobserved, stop).await;
    }
}

impl Running {
    /// Ends those that are no longer among `wanted`, and begins those that are new there.
    async fn follow(&mut self, server: &Arc<Server>, mut wanted: Vec<Wanted>) {
        let mut gone = Self::default();
        for running in std::mem::take(&mut self.0) {
            match wanted.iter().position(|it| it.is_same(&running.wanted)) {
                Some(place) => {
                    wanted.remove(place);
                    self.0.push(running);
                }
                None => gone.0.push(running),
            }
        }
        // One that takes another's place may write what that wrote.
        gone.end().await;
        for wanted in wanted {
            let stop = CancellationToken::new();
            let run = wanted.clone().run(server.clone(), stop.clone());
            let task = server.programs.tasks.spawn(run);
            self.0.push(RunningProgram { wanted, stop, task });
        }
    }

    /// Ends all of them.
    async fn end(self) {
        for running in &self.0 {
            running.stop.cancel();
        }
        for running in self.0 {
            // One that has panicked has ended, too.
            let _ = running.task.await;
        }
    }
}

/// True if streams of `vhost` may have programs. An edge runs none: its origin does.
fn has_programs(vhost: &Vhost) -> bool {
    let is_used = !vhost.transcodes.is_empty() || !vhost.exec.publish.is_empty();
    is_used && vhost.upstream.is_none()
}

/// Runs the programs of `stream` until nobody publishes it. To be called when a publication
/// has begun, and whether that is on air.
pub(in crate::server) fn begin(
    server: &Arc<Server>,
    stream: &Arc<Stream>,
    vhost: &Vhost,
    client: &Client,
    parameters: &Parameters,
    is_on_air: bool,
) {
    if !has_programs(vhost) {
        return;
    }
    let publisher = Publisher::new(client, parameters);
    let publisher = match lock(&server.programs.watched).entry(stream.id()) {
        Entry::Occupied(known) => {
            // The former one's task has not ended yet, or this one waits beside it.
            if is_on_air {
                known.get().send_replace(publisher);
            }
            return;
        }
        Entry::Vacant(vacant) => {
            let publisher = Arc::new(watch::Sender::new(publisher));
            vacant.insert(publisher.clone());
            publisher
        }
    };
    let task = Task {
        server: server.clone(),
        stream: stream.clone(),
        state: stream.state(),
        publisher,
    };
    server.programs.tasks.spawn(task.run());
}

/// Runs the programs that are to run and have no task: this process has had them before an
/// upgrade, or a reload has told of the first ones of a vhost.
pub(in crate::server) fn sweep(server: &Arc<Server>) {
    let (config, programs) = (server.config(), &server.programs);
    let has_any = config.vhosts.values().any(|it| has_programs(it));
    if !has_any || programs.stop.is_cancelled() {
        return;
    }
    forget_former(programs, |key| {
        let stream = server.registry.find(key);
        stream.is_some_and(|stream| stream.has_encoder())
    });
    for stream in &server.registry.list() {
        let key = stream.key();
        let vhost = config.vhost(&key.vhost).filter(|it| has_programs(it));
        let is_watched = || lock(&programs.watched).contains_key(&stream.id());
        if let Some(vhost) = vhost
            && stream.has_encoder()
            && !is_watched()
            // Who has just begun to publish begins them itself.
            && let Some(client) = server.clients.publisher(key)
            && !has_ended(programs, key, client.id)
        {
            begin(server, stream, vhost, &client, &stream.parameters(), true);
        }
    }
}

/// Another publisher of `stream` has gone on air: what its programs know of it changes.
pub(in crate::server) fn switch(
    server: &Server,
    stream: &Stream,
    client: &Client,
    parameters: &Parameters,
) {
    if let Some(known) = lock(&server.programs.watched).get(&stream.id()) {
        known.send_replace(Publisher::new(client, parameters));
    }
}

/// The task that runs the programs of one stream.
struct Task {
    server: Arc<Server>,
    stream: Arc<Stream>,
    state: watch::Receiver<StreamState>,
    publisher: Arc<watch::Sender<Publisher>>,
}

impl Task {
    async fn run(mut self) {
        loop {
            while self.is_needed() {
                self.run_programs().await;
            }
            let id = self.stream.id();
            lock(&self.server.programs.watched).remove(&id);
            // A publisher may have come between the decision to end and here, and have
            // found this task.
            if !self.is_needed() {
                return;
            }
            match lock(&self.server.programs.watched).entry(id) {
                Entry::Occupied(_) => return,
                Entry::Vacant(vacant) => {
                    vacant.insert(self.publisher.clone());
                }
            }
        }
    }

    fn is_needed(&self) -> bool {
        let is_stopping = self.server.programs.stop.is_cancelled();
        !is_stopping && !self.stream.has_ended() && self.stream.has_encoder()
    }

    /// Runs what the configuration in force names until nobody publishes.
    async fn run_programs(&mut self) {
        let server = self.server.clone();
        let mut config = server.config.subscribe();
        let mut publisher = self.publisher.subscribe();
        // Once: whatever makes it may end before its publication does.
        let is_made = is_output(&server.programs, self.stream.key());
        if is_made {
            let key = self.stream.key();
            log::info!("{key}: is not transcoded, since it is what another became");
        }
        let mut running = Running::default();
        while self.is_needed() {
            publisher.borrow_and_update();
            let current = config.borrow_and_update().clone();
            let wanted = self.wanted(&current, is_made);
            running.follow(&server, wanted).await;
            tokio::select! {
                // An error cannot be: the sender is the stream's, which we hold.
                _ = self.state.changed() => {}
                () = server.programs.stop.cancelled() => {}
                // Nor here: the senders are the server's and ours.
                _ = config.changed() => {}
                _ = publisher.changed() => {}
            }
        }
        running.end().await;
    }

    /// The programs that `config` names for the stream; one that a program makes
    /// (`is_made`) is not transcoded.
    fn wanted(&self, config: &Config, is_made: bool) -> Vec<Wanted> {
        let key = self.stream.key();
        let Some(vhost) = config.vhost(&key.vhost).filter(|it| it.upstream.is_none()) else {
            return Vec::new();
        };
        let facts = Arc::new(Facts {
            key: (**key).clone(),
            listen: config.listen.clone(),
            publisher: self.publisher.borrow().clone(),
        });
        let transcodes = vhost.transcodes.iter();
        let transcodes = transcodes.filter(|it| it.enabled && it.applies_to(key));
        let engines = transcodes.flat_map(
            |Transcode {
                 ffmpeg, engines, ..
             }| {
                let engines = engines.iter();
                engines.map(|engine| Work::Transcode(ffmpeg.clone(), Box::new(engine.clone())))
            },
        );
        let mut works: Vec<_> = engines.collect();
        if is_made {
            works.clear();
        }
        works.extend(vhost.exec.publish.iter().cloned().map(Work::Exec));
        let wanted = works.into_iter().map(|work| Wanted {
            facts: facts.clone(),
            work,
        });
        wanted.collect()
    }
}

/// `key` at the vhost that serves it.
fn resolved(config: &Config, mut key: StreamKey) -> StreamKey {
    if let Some(vhost) = config.vhost(&key.vhost) {
        key.vhost.clone_from(&vhost.name);
    }
    key
}

/// What variables stand for.
#[derive(Debug)]
struct Facts {
    key: StreamKey,
    /// Where the server listens.
    listen: Vec<SocketAddr>,
    publisher: Publisher,
}

impl Facts {
    /// The URL of the stream here.
    fn url(&self) -> String {
        let StreamKey { vhost, app, stream } = &self.key;
        let (host, port) = (host(&self.listen), port(&self.listen));
        format!("rtmp://{host}:{port}/{app}/{stream}?vhost={vhost}")
    }

    /// `template` with its variables filled in, `[engine]` as `engine`. A stream whose name
    /// could do harm there gets no program.
    fn fill(&self, template: &str, engine: &str, now: Option<Timestamp>) -> Result<String, Unsafe> {
        let (url, port) = (self.url(), port(&self.listen));
        let parameters = &self.publisher.parameters.0;
        let parameters = match &**parameters {
            "" => String::new(),
            parameters => format!("?{parameters}"),
        };
        let variables = [
            ("[vhost]", &*self.key.vhost),
            ("[port]", &*port),
            ("[app]", &*self.key.app),
            ("[stream]", &*self.key.stream),
            ("[param]", &*parameters),
            ("[engine]", engine),
            ("[url]", &*url),
            ("[tcUrl]", &*self.publisher.tc_url),
            ("[swfUrl]", &*self.publisher.swf_url),
            ("[pageUrl]", &*self.publisher.page_url),
        ];
        let timed = match now {
            Some(now) => Cow::Owned(fill_in_time(template, now)),
            None => Cow::Borrowed(template),
        };
        of_stream(&timed, &variables).ok_or_else(|| Unsafe(template.to_owned()))
    }

    fn transcode(
        &self,
        path: &str,
        engine: &Engine,
        now: Option<Timestamp>,
    ) -> Result<Program, Unsafe> {
        let output = self.fill(&engine.output, &engine.name, now)?;
        let output = at_listener(output, &self.listen);
        Ok(Program {
            path: path.to_owned(),
            arguments: engine.arguments(&[], &self.url(), &output),
            stdout: None,
            stderr: None,
        })
    }

    fn exec(&self, exec: &ExecProgram, now: Option<Timestamp>) -> Result<Program, Unsafe> {
        let fill = |template: &String| self.fill(template, "", now);
        let file = |name: &Option<String>| {
            let name = name.as_ref().map(fill).transpose()?;
            Ok(name.map(PathBuf::from))
        };
        Ok(Program {
            path: exec.path.clone(),
            arguments: exec.arguments.iter().map(fill).collect::<Result<_, _>>()?,
            stdout: file(&exec.stdout)?,
            stderr: file(&exec.stderr)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(parameters: &str) -> Wanted {
        let key = StreamKey {
            vhost: "v".to_owned(),
            app: "live".to_owned(),
            stream: "a".to_owned(),
        };
        let publisher = Publisher {
            parameters: Parameters(parameters.to_owned()),
            ..Publisher::default()
        };
        let facts = Facts {
            key,
            listen: vec!["127.0.0.1:1935".parse().unwrap()],
            publisher,
        };
        let words = ["[timestamp].flv", "[param]"];
        let exec = ExecProgram {
            path: "p".to_owned(),
            arguments: words.iter().map(ToString::to_string).collect(),
            stdout: Some("./[stream]-[timestamp]".to_owned()),
            stderr: None,
        };
        Wanted {
            facts: Arc::new(facts),
            work: Work::Exec(exec),
        }
    }

    #[test]
    fn each_start_has_its_own_time_and_each_publisher_its_own_words() {
        let program = |seconds| {
            let now = Timestamp::from_second(seconds).unwrap();
            wanted("t=1").program(Some(now)).unwrap()
        };
        assert_eq!(program(1).arguments, ["1000.flv", "?t=1"]);
        assert_eq!(program(2).arguments, ["2000.flv", "?t=1"]);
        assert_eq!(program(2).stdout, Some(PathBuf::from("./a-2000")));
        assert!(wanted("t=1").is_same(&wanted("t=1")));
        assert!(!wanted("t=1").is_same(&wanted("t=2")));
    }

    #[test]
    fn words_that_no_argument_has_change_no_program() {
        let of_page = |page_url: &str| {
            let mut wanted = wanted("t=1");
            let facts = Arc::get_mut(&mut wanted.facts).unwrap();
            facts.publisher.page_url = page_url.to_owned();
            wanted
        };
        assert!(of_page("http://one/").is_same(&of_page("http://two/")));
    }

    #[test]
    fn an_output_here_is_where_the_server_listens() {
        let mut wanted = wanted("");
        let facts = Arc::get_mut(&mut wanted.facts).unwrap();
        facts.listen = vec!["192.0.2.5:1936".parse().unwrap()];
        for (output, expected) in [
            (
                "rtmp://127.0.0.1:[port]/[app]/[stream]_sd?vhost=[vhost]",
                "rtmp://192.0.2.5:1936/live/a_sd?vhost=v",
            ),
            ("rtmp://localhost/live/b", "rtmp://localhost/live/b"),
            ("rtmp://cdn/live/b", "rtmp://cdn/live/b"),
        ] {
            wanted.work = Work::Transcode("f".to_owned(), Box::new(Engine::copying(output)));
            let program = wanted.program(None).unwrap();
            assert_eq!(program.arguments.last().map(String::as_str), Some(expected));
            let url = "rtmp://192.0.2.5:1936/live/a?vhost=v".to_owned();
            assert!(program.arguments.contains(&url), "{program:?}");
        }
    }
}
