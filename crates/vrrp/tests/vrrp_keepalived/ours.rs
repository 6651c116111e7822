//! Our virtual routers, running on a host of the test's network.

use std::sync::mpsc;
use std::thread::JoinHandle;

use vrrp::{Cause, State};
use vrrp::{Event, InstanceStatus, Settings, Vrrp};

use crate::netns::{Host, Network};

/// Our side, running on a host; all calls wait for their answer.
pub(crate) struct Ours {
    commands: tokio::sync::mpsc::UnboundedSender<Command>,
    events: mpsc::Receiver<Event>,
    thread: Option<JoinHandle<()>>,
}

enum Command {
    Status(mpsc::Sender<Vec<InstanceStatus>>),
    Reload(Settings),
    /// Ends as `kill -9` would: without a word.
    Abandon,
    Stop,
}

impl Ours {
    pub(crate) fn start(network: &Network, configuration: &str) -> Self {
        let settings = settings(configuration);
        let (commands, mut incoming) = tokio::sync::mpsc::unbounded_channel();
        let (sender, events) = mpsc::channel();
        let thread = network.on(Host::Ours, move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build();
            let runtime = runtime.expect("a runtime");
            runtime.block_on(async move {
                let mut vrrp = Vrrp::start(settings).await.expect("VRRP starts");
                loop {
                    tokio::select! {
                        event = vrrp.next_event() => sender.send(event).expect("the test listens"),
                        command = incoming.recv() => match command {
                            Some(Command::Status(asker)) => {
                                asker.send(vrrp.status().await).expect("the test listens");
                            }
                            Some(Command::Reload(settings)) => {
                                for event in vrrp.reload(settings).await {
                                    sender.send(event).expect("the test listens");
                                }
                            }
                            Some(Command::Abandon) => return,
                            Some(Command::Stop) | None => break,
                        },
                    }
                }
                for event in vrrp.stop().await {
                    // After a failure nobody listens.
                    let _ = sender.send(event);
                }
            });
        });
        Self {
            commands,
            events,
            thread: Some(thread),
        }
    }

    pub(crate) fn status(&self) -> InstanceStatus {
        let (sender, answer) = mpsc::channel();
        assert!(
            self.commands.send(Command::Status(sender)).is_ok(),
            "our side runs"
        );
        answer.recv().expect("an answer").remove(0)
    }

    pub(crate) fn reload(&self, configuration: &str) {
        let sent = self.commands.send(Command::Reload(settings(configuration)));
        assert!(sent.is_ok(), "our side runs");
    }

    /// Waits until a state is entered; returns why.
    pub(crate) fn wait_for_state(&self, state: State) -> Cause {
        self.wait_for_event(&state.to_string(), |event| event.state == state)
    }

    /// Waits until a state is entered for such a cause. What a busy machine
    /// makes happen besides is passed over.
    pub(crate) fn wait_for_cause(&self, what: &str, is_such: impl Fn(&Cause) -> bool) {
        self.wait_for_event(what, |event| is_such(&event.cause));
    }

    pub(crate) fn wait_for_event(&self, what: &str, is_wanted: impl Fn(&Event) -> bool) -> Cause {
        loop {
            let event = self.events.recv_timeout(netbed::TIME_LIMIT);
            let event = event.unwrap_or_else(|_| panic!("timed out, waiting for: {what}"));
            println!("{event}");
            if is_wanted(&event) {
                return event.cause;
            }
        }
    }

    pub(crate) fn stop(mut self) {
        self.end(Command::Stop);
    }

    pub(crate) fn abandon(mut self) {
        self.end(Command::Abandon);
    }

    fn end(&mut self, command: Command) {
        if let Some(thread) = self.thread.take() {
            // A thread that has panicked takes no command.
            let _ = self.commands.send(command);
            let ended = thread.join();
            assert!(
                ended.is_ok() || std::thread::panicking(),
                "our side has failed"
            );
        }
    }
}

impl Drop for Ours {
    fn drop(&mut self) {
        self.end(Command::Stop);
    }
}

/// What a configuration says.
pub(crate) fn settings(configuration: &str) -> Settings {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("keepalived.conf");
    std::fs::write(&file, configuration).expect("the file is written");
    let loaded = lb_config::load(&file).expect("the configuration is accepted");
    Settings::from_config(&loaded.config).expect("the virtual routers can be")
}
