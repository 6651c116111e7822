//! Small programs that end, do not end, write without end, and leave children behind.

use std::fs;
use std::future::pending;
use std::sync::Mutex;

use netbed::local::lives;
use netbed::wait_for;
use nix::sys::signal::kill;
use nix::unistd::Pid;

use super::*;

fn shell(script: &str) -> Program {
    Program {
        path: "sh".to_owned(),
        arguments: vec!["-c".to_owned(), script.to_owned()],
        stdout: None,
        stderr: None,
    }
}

/// The number that a script has written to a file.
fn number(file: &Path) -> Option<u32> {
    fs::read_to_string(file).ok()?.trim().parse().ok()
}

#[tokio::test]
async fn a_program_ends_with_its_status_and_last_words() {
    let launcher = Launcher::start().expect("a thread");
    let program = shell("echo out; echo first >&2; echo last >&2; exit 7");
    let exit = program.run(&launcher, |_| {}, pending()).await;
    let exit = exit.expect("there is a shell");
    assert_eq!(exit.status.code(), Some(7));
    assert_eq!(exit.last_words, ["first", "last"]);
    assert!(!exit.is_stopped);
}

#[tokio::test]
async fn output_goes_to_files_that_are_appended_to() {
    let launcher = Launcher::start().expect("a thread");
    let directory = tempfile::tempdir().expect("a directory");
    let program = Program {
        stdout: Some(directory.path().join("out")),
        stderr: Some(directory.path().join("err")),
        ..shell("echo out; echo err >&2")
    };
    for _ in 0..2 {
        let exit = program.run(&launcher, |_| {}, pending()).await;
        assert!(exit.expect("it runs").last_words.is_empty());
    }
    let read = |name| fs::read_to_string(directory.path().join(name)).expect("a file");
    assert_eq!((&*read("out"), &*read("err")), ("out\nout\n", "err\nerr\n"));
}

#[tokio::test]
async fn a_program_that_is_not_there_is_an_error() {
    let launcher = Launcher::start().expect("a thread");
    let program = Program {
        path: "/no/such".to_owned(),
        ..shell("")
    };
    let error = program.run(&launcher, |_| {}, pending()).await;
    let error = error.expect_err("there is none");
    assert_eq!(error.kind(), io::ErrorKind::NotFound);
}

#[tokio::test]
async fn a_program_that_writes_without_end_is_read_and_stopped() {
    let launcher = Launcher::start().expect("a thread");
    let program = shell("yes >&2");
    let id = Mutex::new(0);
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let run = program.run(
        &launcher,
        |started| *id.lock().expect("a number") = started,
        async {
            let _ = stopped.await;
        },
    );
    let (exit, ()) = tokio::join!(run, async {
        tokio::task::yield_now().await;
        stop.send(()).expect("it is waited for");
    });
    let exit = exit.expect("it has run");
    assert!(exit.is_stopped);
    let id = *id.lock().expect("a number");
    assert!(id > 0 && !lives(id), "{id}");
}

#[tokio::test]
async fn what_a_program_leaves_in_the_background_is_killed_with_it() {
    let launcher = Launcher::start().expect("a thread");
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("id");
    let program = shell(&format!("sleep 1000 & echo $! > {}", file.display()));
    let exit = program.run(&launcher, |_| {}, pending()).await;
    assert!(exit.expect("it runs").status.success());
    let left = number(&file).expect("a number");
    wait_for("the end of what was left", || !lives(left));
}

#[tokio::test]
async fn a_program_that_ignores_sigterm_is_killed() {
    let launcher = Launcher::start().expect("a thread");
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("ready");
    let script = format!(
        "trap '' TERM; touch {}; while :; do sleep 1; done",
        file.display()
    );
    let ready = async {
        while !file.exists() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let exit = shell(&script).run(&launcher, |_| {}, ready).await;
    let exit = exit.expect("it runs");
    assert!(exit.is_stopped && exit.status.code().is_none(), "{exit:?}");
}

#[test]
fn programs_end_with_the_thread_that_has_started_them() {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let launcher = Launcher::start().expect("a thread");
    let child = runtime.block_on(async {
        let mut command = Command::new("sleep");
        command.arg("1000");
        launcher.launch(command).await.expect("it starts")
    });
    let id = child.id().expect("it runs");
    assert!(kill(Pid::from_raw(id.cast_signed()), None).is_ok());
    drop(launcher);
    wait_for("the end of the program", || !lives(id));
}

#[test]
fn no_program_is_started_while_starts_are_held() {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let launcher = Launcher::start().expect("a thread");
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("id");
    let mut command = Command::new("sh");
    command.args(["-c", &format!("echo $$ > {}", file.display())]);
    let held = hold_starts();
    let started = runtime.spawn(async move { launcher.launch(command).await?.wait().await });
    // It would have come by now, as it does below.
    std::thread::sleep(Duration::from_millis(200));
    assert!(!file.exists() && !started.is_finished());
    drop(held);
    let status = runtime.block_on(started).expect("no panic");
    assert!(status.expect("it starts").success());
    assert!(number(&file).is_some());
}

#[tokio::test]
async fn what_programs_have_started_ends_with_a_process_that_is_killed() {
    let launcher = Launcher::start().expect("a thread");
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("id");
    let mut command = Command::new("sh");
    let script = format!("sleep 1000 & echo $! > {}; wait", file.display());
    command.args(["-c", &script]);
    let child = launcher.launch(command).await.expect("it starts");
    let id = child.id().expect("it runs");
    let watcher = Watcher::start(id).expect("there is a shell");
    wait_for("a number", || number(&file).is_some());
    let started = number(&file).expect("a number");
    assert!(lives(id) && lives(started));
    watcher.lose().await;
    wait_for("the end of both", || !lives(id) && !lives(started));
}

#[tokio::test]
async fn a_fifo_that_nobody_reads_holds_nothing_up() {
    let launcher = Launcher::start().expect("a thread");
    let directory = tempfile::tempdir().expect("a directory");
    let fifo = directory.path().join("fifo");
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).expect("a FIFO");
    let program = Program {
        stdout: Some(fifo.clone()),
        ..shell("echo out")
    };
    let run = program.run(&launcher, |_| {}, pending()).await;
    let error = run.expect_err("nobody reads it").to_string();
    assert!(error.contains("fifo: nobody reads"), "{error}");
    let reader = std::thread::spawn(move || fs::read_to_string(fifo).expect("it is read"));
    while program.run(&launcher, |_| {}, pending()).await.is_err() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(reader.join().expect("it ends"), "out\n");
}
