//! Programs that run while a stream is published (`exec`).

use std::fs;
use std::path::Path;

use rtmp_server::config::Role;

use crate::api_client::Api;
use crate::standby::{ready, same, two_publishers};
use crate::support::{TestServer, until};

/// Has a program note its process in the file `name` of `directory`, and run. It has
/// `argument`.
fn noting(directory: &Path, name: &str, argument: &str) -> String {
    let file = directory.join(name);
    let file = file.display();
    format!("publish sh -c 'echo $$; exec sleep 1000' {argument} > {file};")
}

/// Has a program note its process in the file `name` of `directory`, and exit with `status`.
fn ending(directory: &Path, name: &str, status: u8) -> String {
    let file = directory.join(name);
    let file = file.display();
    format!("publish sh -c 'echo $$; exit {status}' > {file};")
}

fn vhost(programs: &[String]) -> String {
    let programs = programs.concat();
    format!("vhost __defaultVhost__ {{ exec {{ enabled on; {programs} }} }}")
}

/// The processes that the file `name` of `directory` names.
fn noted(directory: &Path, name: &str) -> Vec<String> {
    let text = fs::read_to_string(directory.join(name)).unwrap_or_default();
    let complete = text.rfind('\n').map_or("", |end| &text[..end]);
    complete.lines().map(str::to_owned).collect()
}

fn runs(process: &str) -> bool {
    Path::new("/proc").join(process).exists()
}

#[tokio::test(flavor = "multi_thread")]
async fn another_publisher_begins_only_programs_anew_whose_arguments_change() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    // The second has an argument of the publisher's, the third one of the time.
    let programs = [
        ("same", "[stream]"),
        ("other", "[param]"),
        ("timed", "[timestamp]"),
    ];
    let text = vhost(&programs.map(|(name, argument)| noting(directory, name, argument)));
    let origin = TestServer::start(Role::Origin, &text);
    let api = Api::of(&origin).await;
    let [first, _second] = two_publishers(&origin, &same()).await;
    ready(&api).await;
    until(|| programs.iter().all(|it| noted(directory, it.0).len() == 1)).await;
    let before = programs.map(|(name, _)| noted(directory, name));
    drop(first);
    until(|| noted(directory, "other").len() == 2).await;
    // What ends has ended before another one begins.
    assert!(!runs(&before[1][0]));
    for (name, before) in [("same", &before[0]), ("timed", &before[2])] {
        assert_eq!(noted(directory, name), *before);
        assert!(runs(&before[0]), "{name} goes on");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reload_begins_and_ends_programs_and_leaves_the_others() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    let origin = TestServer::start(Role::Origin, "vhost __defaultVhost__ { }");
    let _publisher = origin.publisher("s").await;
    let [one, two, three] = ["one", "two", "three"].map(|it| noting(directory, it, "x"));
    // The first that the vhost has.
    origin.reload(&vhost(&[one, two.clone()]));
    until(|| {
        ["one", "two"]
            .iter()
            .all(|it| noted(directory, it).len() == 1)
    })
    .await;
    let [one, former] = ["one", "two"].map(|it| noted(directory, it));
    origin.reload(&vhost(&[three, two]));
    until(|| noted(directory, "three").len() == 1).await;
    assert!(!runs(&one[0]));
    assert_eq!(noted(directory, "two"), former);
    assert!(runs(&former[0]));
}

#[tokio::test(flavor = "multi_thread")]
async fn pauses_grow_for_programs_that_fail_and_not_for_those_that_have_done_their_work() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    let programs = [("done", 0), ("failed", 1)];
    let text = vhost(&programs.map(|(name, status)| ending(directory, name, status)));
    let origin = TestServer::start(Role::Origin, &text);
    let _publisher = origin.publisher("s").await;
    until(|| noted(directory, "done").len() >= 7).await;
    // At the same pauses there would be as many.
    let failed = noted(directory, "failed").len();
    assert!((1..6).contains(&failed), "{failed}");
}
