//! The scripts of many subjects: those of one subject one after the other, those
//! of several side by side.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::timeout;

use crate::run::run_script;
use crate::runnable::Runnable;

/// Time after which a script is killed.
const TIME_LIMIT: Duration = Duration::from_secs(30);

/// Time for the scripts that are left at the end, all together: less than systemd
/// waits for a service to stop (`TimeoutStopSec`).
const STOP_LIMIT: Duration = Duration::from_secs(45);

/// A script with its subject: a virtual router, a service or a server.
type Asked = (String, Runnable);

/// Runs scripts, each subject's in the order in which they were asked for. A
/// script that hangs holds up those of its own subject alone.
#[derive(Debug)]
pub struct ScriptRunner {
    queue: mpsc::UnboundedSender<Asked>,
    /// Number of scripts that run or wait.
    pending: watch::Sender<usize>,
    task: JoinHandle<()>,
}

impl ScriptRunner {
    /// Starts with nothing to run.
    pub fn start() -> Self {
        let (queue, asked) = mpsc::unbounded_channel();
        let pending = watch::Sender::new(0);
        let task = tokio::spawn(run_all(asked, pending.clone()));
        Self {
            queue,
            pending,
            task,
        }
    }

    /// Has a script run after those that were asked for before for `subject`.
    pub fn run(&self, subject: String, script: Runnable) {
        self.pending.send_modify(|pending| *pending += 1);
        // The task ends only with the runner itself.
        let _ = self.queue.send((subject, script));
    }

    /// Waits until no script runs and none is to be run. May be dropped.
    pub async fn done(&self) {
        let mut pending = self.pending.subscribe();
        // Its sender lives as long as we.
        let _ = pending.wait_for(|pending| *pending == 0).await;
    }

    /// Waits for the scripts asked for so far; those that take too long are
    /// killed.
    pub async fn finish(self) {
        self.finish_within(STOP_LIMIT).await;
    }

    async fn finish_within(mut self, limit: Duration) {
        drop(self.queue);
        match timeout(limit, &mut self.task).await {
            Ok(Ok(())) => {}
            Ok(Err(_)) => log::warn!("the task that runs scripts has failed"),
            Err(_) => {
                let left = *self.pending.borrow();
                log::warn!(
                    "{left} script(s) killed or not run: they were not over after {} s",
                    limit.as_secs()
                );
                self.task.abort();
                // The aborted task drops what it runs, and so kills it.
                let _ = self.task.await;
            }
        }
    }
}

async fn run_all(mut asked: mpsc::UnboundedReceiver<Asked>, pending: watch::Sender<usize>) {
    // A subject is here while a script of it runs.
    let mut waiting: HashMap<String, VecDeque<Runnable>> = HashMap::new();
    let mut running = JoinSet::new();
    let mut open = true;
    while open || !running.is_empty() {
        tokio::select! {
            new = asked.recv(), if open => match new {
                Some((subject, script)) => match waiting.get_mut(&subject) {
                    Some(queue) => queue.push_back(script),
                    None => {
                        waiting.insert(subject.clone(), VecDeque::new());
                        running.spawn(run_one(subject, script));
                    }
                },
                None => open = false,
            },
            Some(over) = running.join_next() => {
                pending.send_modify(|pending| *pending -= 1);
                let Ok(subject) = over else {
                    // It does not panic, and nobody aborts it alone.
                    continue;
                };
                match waiting.get_mut(&subject).and_then(VecDeque::pop_front) {
                    Some(next) => {
                        running.spawn(run_one(subject, next));
                    }
                    None => {
                        waiting.remove(&subject);
                    }
                }
            }
        }
    }
}

/// Runs a script to its end; returns its subject.
async fn run_one(subject: String, script: Runnable) -> String {
    let name = script.script.command.join(" ");
    match timeout(TIME_LIMIT, run_script(&script)).await {
        Ok(Ok(status)) if status.success() => log::debug!("script `{name}`: done"),
        Ok(Ok(status)) => log::warn!("script `{name}`: {status}"),
        Ok(Err(error)) => log::warn!("script `{name}` cannot be run: {error}"),
        Err(_) => log::warn!("script `{name}` killed after {} s", TIME_LIMIT.as_secs()),
    }
    subject
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::*;
    use lb_model::config::Script;

    fn program(command: &[&str]) -> Runnable {
        Runnable::from(Script {
            command: command.iter().map(|word| (*word).to_owned()).collect(),
            ..Script::default()
        })
    }

    fn script(line: &str) -> Runnable {
        program(&["/bin/sh", "-c", line])
    }

    /// Whether the process whose id a script wrote to `file` still runs.
    fn runs(file: &Path) -> bool {
        let pid = fs::read_to_string(file).expect("the script has written it");
        // A zombie that nobody has waited for is no longer a program.
        fs::read_to_string(format!("/proc/{}/cmdline", pid.trim()))
            .is_ok_and(|line| !line.is_empty())
    }

    #[tokio::test]
    async fn scripts_of_a_subject_run_in_order_and_a_failing_one_does_not_stop_the_next() {
        let directory = tempfile::tempdir().expect("a directory");
        let file = directory.path().join("log");
        let append = |word: &str, status: &str| {
            script(&format!("echo {word} >> {}; exit {status}", file.display()))
        };
        let runner = ScriptRunner::start();
        runner.run("VI_1".to_owned(), append("one", "1"));
        runner.run("VI_1".to_owned(), program(&["/nonexistent/program"]));
        runner.run("VI_1".to_owned(), append("two", "0"));
        runner.finish().await;
        assert_eq!(fs::read_to_string(&file).expect("the log"), "one\ntwo\n");
    }

    #[tokio::test]
    async fn a_script_that_hangs_holds_up_no_other_subject() {
        let directory = tempfile::tempdir().expect("a directory");
        let (hanging, done) = (directory.path().join("pid"), directory.path().join("done"));
        let runner = ScriptRunner::start();
        let line = format!("echo $$ > {}; sleep 1000; true", hanging.display());
        runner.run("server".to_owned(), script(&line));
        runner.run("server".to_owned(), script("true"));
        let line = format!("touch {}", done.display());
        runner.run("VI_1".to_owned(), script(&line));
        let is_written =
            |file: &Path| fs::read_to_string(file).is_ok_and(|text| text.ends_with('\n'));
        while !(is_written(&hanging) && done.exists()) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        // The hanging one, and its next.
        let mut pending = runner.pending.subscribe();
        pending.wait_for(|pending| *pending == 2).await.unwrap();
        runner.finish_within(Duration::ZERO).await;
        while runs(&hanging) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    #[tokio::test]
    async fn all_is_done_when_the_last_script_is_over() {
        let directory = tempfile::tempdir().expect("a directory");
        let file = directory.path().join("log");
        let runner = ScriptRunner::start();
        runner.done().await;
        runner.run("a".to_owned(), script("true"));
        runner.run("a".to_owned(), script(&format!("touch {}", file.display())));
        runner.done().await;
        assert!(file.exists());
    }
}
