//! The programs of a published stream (`transcode`, `exec`): they run while it is published.

use std::path::PathBuf;
use std::sync::Arc;

use jiff::Timestamp;
use rtmp_proto::session::{Parameters, StreamKey};
use service_kit::process::Program;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::{Programs, Unobserved, fill_in_time, of_stream, supervise};
use crate::config::{Config, ExecProgram, Transcode, Vhost, local_stream, port};
use crate::server::Server;
use crate::server::client::{Client, ClientUrls};
use crate::stream::{Stream, StreamState, lock};

/// What the variables of `exec` say of a publisher.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Publisher {
    parameters: Parameters,
    tc_url: String,
    swf_url: String,
    page_url: String,
}

/// A program that is to run, and the stream of this server that it makes.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Wanted {
    /// `transcode ff` or `exec`.
    name: String,
    program: Program,
    output: Option<StreamKey>,
}

/// Runs the programs of `stream` until nobody publishes it. To be called when a publication
/// has begun.
pub(in crate::server) fn begin(
    server: &Arc<Server>,
    stream: &Arc<Stream>,
    vhost: &Vhost,
    client: &Client,
    parameters: &Parameters,
) {
    let is_used = !vhost.transcodes.is_empty() || !vhost.exec.publish.is_empty();
    // An edge runs nothing: its origin does.
    if !is_used || vhost.upstream.is_some() {
        return;
    }
    let none = ClientUrls::default();
    let urls = client.urls().unwrap_or(&none);
    let publisher = Publisher {
        parameters: parameters.clone(),
        tc_url: urls.tc_url.to_string(),
        swf_url: urls.swf_url.to_string(),
        page_url: urls.page_url.to_string(),
    };
    if lock(&server.programs.watched).insert(stream.id()) {
        let task = Task {
            server: server.clone(),
            stream: stream.clone(),
            state: stream.state(),
            publisher,
        };
        server.programs.tasks.spawn(task.run());
    }
}

/// The task that runs the programs of one stream.
struct Task {
    server: Arc<Server>,
    stream: Arc<Stream>,
    state: watch::Receiver<StreamState>,
    publisher: Publisher,
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
            if !self.is_needed() || !lock(&self.server.programs.watched).insert(id) {
                return;
            }
        }
    }

    fn is_needed(&self) -> bool {
        let is_stopping = self.server.programs.stop.is_cancelled();
        !is_stopping && !self.stream.has_ended() && self.stream.has_encoder()
    }

    /// Runs what the configuration in force names until it names something else, or nobody
    /// publishes.
    async fn run_programs(&mut self) {
        let server = self.server.clone();
        let mut config = server.config.subscribe();
        let now = Timestamp::now();
        let wanted = self.wanted(&config.borrow_and_update().clone(), now);
        let stop = CancellationToken::new();
        let tasks = TaskTracker::new();
        for wanted in &wanted {
            let name = format!("{}: {}", self.stream.key(), wanted.name);
            let (program, output) = (wanted.program.clone(), wanted.output.clone());
            let (server, stop) = (server.clone(), stop.clone());
            tasks.spawn(async move {
                let output = output.map(|key| Output::new(&server.programs, key));
                supervise(server.clone(), name, program, &Unobserved, stop).await;
                drop(output);
            });
        }
        while self.is_needed() {
            tokio::select! {
                // An error cannot be: the sender is the stream's, which we hold.
                _ = self.state.changed() => {}
                () = server.programs.stop.cancelled() => {}
                // Nor here: the sender is the server's.
                _ = config.changed() => {
                    let config = config.borrow_and_update().clone();
                    if self.wanted(&config, now) != wanted {
                        break;
                    }
                }
            }
        }
        stop.cancel();
        tasks.close();
        tasks.wait().await;
    }

    /// The programs that `config` names for the stream.
    fn wanted(&self, config: &Config, now: Timestamp) -> Vec<Wanted> {
        let key = self.stream.key();
        let Some(vhost) = config.vhost(&key.vhost).filter(|it| it.upstream.is_none()) else {
            return Vec::new();
        };
        let facts = Facts {
            key,
            port: port(&config.listen),
            host: host(config),
            publisher: &self.publisher,
            now,
        };
        let transcodes = vhost.transcodes.iter();
        let transcodes = transcodes.filter(|it| it.enabled && it.applies_to(key));
        let mut wanted: Vec<_> = transcodes.flat_map(|it| facts.transcode(it)).collect();
        for wanted in &mut wanted {
            let output = wanted.program.arguments.last();
            let output = output.and_then(|url| local_stream(url, &config.listen));
            wanted.output = output.map(|key| resolved(config, key));
        }
        if is_output(&self.server.programs, key) && !wanted.is_empty() {
            log::info!("{key}: is not transcoded, since it is what another became");
            wanted.clear();
        }
        // One that overwrites its own input would never end.
        wanted.retain(|it| it.output.as_ref() != Some(key));
        wanted.extend(vhost.exec.publish.iter().filter_map(|it| facts.exec(it)));
        wanted
    }
}

/// `key` at the vhost that serves it.
fn resolved(config: &Config, mut key: StreamKey) -> StreamKey {
    if let Some(vhost) = config.vhost(&key.vhost) {
        key.vhost.clone_from(&vhost.name);
    }
    key
}

/// The address at which the server takes RTMP from itself.
fn host(config: &Config) -> String {
    match config.listen.first().map(std::net::SocketAddr::ip) {
        Some(ip) if !ip.is_unspecified() => match ip {
            std::net::IpAddr::V4(ip) => ip.to_string(),
            std::net::IpAddr::V6(ip) => format!("[{ip}]"),
        },
        _ => "127.0.0.1".to_owned(),
    }
}

/// A stream that a program makes, for as long as it does.
struct Output<'a> {
    programs: &'a Programs,
    key: StreamKey,
}

impl<'a> Output<'a> {
    fn new(programs: &'a Programs, key: StreamKey) -> Self {
        *lock(&programs.outputs).entry(key.clone()).or_default() += 1;
        Self { programs, key }
    }
}

impl Drop for Output<'_> {
    fn drop(&mut self) {
        let mut outputs = lock(&self.programs.outputs);
        if let Some(count) = outputs.get_mut(&self.key) {
            *count -= 1;
            if *count == 0 {
                outputs.remove(&self.key);
            }
        }
    }
}

/// True if a program makes the stream `key`.
fn is_output(programs: &Programs, key: &StreamKey) -> bool {
    lock(&programs.outputs).contains_key(key)
}

/// What variables stand for.
struct Facts<'a> {
    key: &'a StreamKey,
    port: String,
    host: String,
    publisher: &'a Publisher,
    now: Timestamp,
}

impl Facts<'_> {
    /// The URL of the stream here.
    fn url(&self) -> String {
        let StreamKey { vhost, app, stream } = self.key;
        let (host, port) = (&self.host, &self.port);
        format!("rtmp://{host}:{port}/{app}/{stream}?vhost={vhost}")
    }

    /// `template` with its variables filled in, `[engine]` as `engine`. A stream whose name
    /// could do harm there gets no program.
    fn fill(&self, template: &str, engine: &str) -> Option<String> {
        let url = self.url();
        let parameters = &self.publisher.parameters.0;
        let parameters = match &**parameters {
            "" => String::new(),
            parameters => format!("?{parameters}"),
        };
        let variables = [
            ("[vhost]", &*self.key.vhost),
            ("[port]", &*self.port),
            ("[app]", &*self.key.app),
            ("[stream]", &*self.key.stream),
            ("[param]", &*parameters),
            ("[engine]", engine),
            ("[url]", &*url),
            ("[tcUrl]", &*self.publisher.tc_url),
            ("[swfUrl]", &*self.publisher.swf_url),
            ("[pageUrl]", &*self.publisher.page_url),
        ];
        let filled = of_stream(&fill_in_time(template, self.now), &variables);
        if filled.is_none() {
            log::warn!(
                "{}: no program is run, since what its publisher says of it is not safe in \
                 `{template}`",
                self.key
            );
        }
        filled
    }

    fn transcode<'a>(&'a self, transcode: &'a Transcode) -> impl Iterator<Item = Wanted> + 'a {
        transcode.engines.iter().filter_map(|engine| {
            let output = self.fill(&engine.output, &engine.name)?;
            Some(Wanted {
                name: format!("transcode {}", engine.name),
                program: Program {
                    path: transcode.ffmpeg.clone(),
                    arguments: engine.arguments(&[], &self.url(), &output),
                    stdout: None,
                    stderr: None,
                },
                output: None,
            })
        })
    }

    fn exec(&self, exec: &ExecProgram) -> Option<Wanted> {
        let fill = |template: &String| self.fill(template, "");
        let file = |name: &Option<String>| match name {
            Some(name) => fill(name).map(|name| Some(PathBuf::from(name))),
            None => Some(None),
        };
        Some(Wanted {
            name: "exec".to_owned(),
            program: Program {
                path: exec.path.clone(),
                arguments: exec.arguments.iter().map(fill).collect::<Option<_>>()?,
                stdout: file(&exec.stdout)?,
                stderr: file(&exec.stderr)?,
            },
            output: None,
        })
    }
}
