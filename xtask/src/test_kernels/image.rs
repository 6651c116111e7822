//! The whole file system of the virtual machine: busybox, the tests, what they
//! call, and the libraries of all of them.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, bail};

use super::Missing;
use super::package::Kernel;

/// What the tests call.
const TOOLS: [&str; 2] = ["ip", "openssl"];

/// Says what of this machine's is missing that belongs into every image.
pub(crate) fn missing() -> Option<Missing> {
    for (program, package) in [
        ("busybox", "busybox-static"),
        ("ip", "iproute2"),
        ("ldd", "libc-bin"),
        ("openssl", "openssl"),
    ] {
        if find(program).is_none() {
            return Some(Missing(format!(
                "{program} is not here (Debian's package {package})"
            )));
        }
    }
    None
}

/// A thing that the machine does.
pub(crate) struct Step {
    pub(crate) name: String,
    /// Shell commands, run in a shell of their own.
    pub(crate) commands: String,
}

/// Builds the image (the kernel's Documentation/driver-api/early-userspace/
/// buffer-format.rst) in `directory`, and says where it is.
pub(crate) fn build(
    directory: &Path,
    kernel: &Kernel,
    programs: &[(String, PathBuf)],
    steps: &[Step],
) -> anyhow::Result<PathBuf> {
    let root = directory.join("root");
    for mount_point in ["bin", "dev", "modules", "proc", "run", "sys", "tmp"] {
        fs::create_dir_all(root.join(mount_point)).context("cannot make a directory")?;
    }
    let mut executables = vec![("busybox".to_owned(), tool("busybox")?)];
    for name in TOOLS {
        executables.push((name.to_owned(), tool(name)?));
    }
    executables.extend_from_slice(programs);
    let mut libraries = BTreeSet::new();
    for (name, path) in &executables {
        copy(path, &root.join("bin").join(name))?;
        libraries.extend(libraries_of(path)?);
    }
    for library in libraries {
        let relative = library.strip_prefix("/").expect("ldd names whole paths");
        copy(&library, &root.join(relative))?;
    }
    let mut modules = Vec::new();
    for module in &kernel.modules {
        let name = module.file_name().expect("modules are files");
        copy(module, &root.join("modules").join(name))?;
        modules.push(name.to_string_lossy().into_owned());
    }
    let init = root.join("init");
    fs::write(&init, script(&modules, steps)).context("cannot write the image's init")?;
    fs::set_permissions(&init, fs::Permissions::from_mode(0o755))
        .context("cannot make the image's init executable")?;
    archive(&root, &directory.join("initramfs"))
}

/// What runs as the first process. The second serial line is the steps' alone;
/// lines on it that begin with `@` are for [`super::machine`].
fn script(modules: &[String], steps: &[Step]) -> String {
    let step = |Step { name, commands }: &Step| {
        format!("echo @ begin {name}\n(\n{commands}\n)\necho @ end $?\n")
    };
    let steps: String = steps.iter().map(step).collect();
    format!(
        "#!/bin/busybox sh
export PATH=/bin
busybox mount -t proc proc /proc
busybox mount -t sysfs sysfs /sys
busybox mount -t devtmpfs dev /dev
busybox mount -t bpf bpf /sys/fs/bpf
busybox mount -t tmpfs tmp /tmp
busybox mount -t tmpfs run /run
exec >/dev/ttyS1 2>&1
busybox stty -onlcr
cd /tmp
for module in {modules}; do busybox insmod /modules/$module; done
ip link set lo up
{steps}busybox sync
busybox poweroff -f
",
        modules = modules.join(" "),
    )
}

fn archive(root: &Path, image: &Path) -> anyhow::Result<PathBuf> {
    let mut names = String::new();
    list(root, Path::new("."), &mut names)?;
    let output = File::create(image).context("cannot create the image")?;
    let mut cpio = Command::new("busybox")
        .args(["cpio", "-o", "-H", "newc"])
        .current_dir(root)
        .stdin(Stdio::piped())
        .stdout(output)
        .stderr(Stdio::null())
        .spawn()
        .context("cannot start busybox")?;
    let mut input = cpio.stdin.take().expect("it is piped");
    input
        .write_all(names.as_bytes())
        .context("busybox cpio listens no more")?;
    drop(input);
    if !cpio.wait().context("busybox vanished")?.success() {
        bail!("busybox cpio could not write the image");
    }
    Ok(image.to_owned())
}

/// Names of everything under `directory`, what holds before what is held.
fn list(root: &Path, directory: &Path, names: &mut String) -> anyhow::Result<()> {
    let entries = fs::read_dir(root.join(directory)).context("cannot read the image's files")?;
    for entry in entries {
        let entry = entry.context("cannot read the image's files")?;
        let path = directory.join(entry.file_name());
        names.push_str(path.to_str().context("the image's names are text")?);
        names.push('\n');
        let kind = entry.file_type().context("cannot read the image's files")?;
        if kind.is_dir() {
            list(root, &path, names)?;
        }
    }
    Ok(())
}

fn copy(from: &Path, to: &Path) -> anyhow::Result<()> {
    let parent = to.parent().expect("files lie in directories");
    fs::create_dir_all(parent).context("cannot make a directory")?;
    fs::copy(from, to).with_context(|| format!("cannot copy {} into the image", from.display()))?;
    Ok(())
}

/// The shared libraries of a program, its loader included (ldd(1)).
fn libraries_of(program: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let output = Command::new("ldd")
        .arg(program)
        .output()
        .context("cannot start ldd")?;
    // It fails where there is nothing to say: at a static program.
    let text = String::from_utf8_lossy(&output.stdout);
    Ok(text
        .split_whitespace()
        .filter(|word| word.starts_with('/'))
        .map(PathBuf::from)
        .collect())
}

fn tool(name: &str) -> anyhow::Result<PathBuf> {
    find(name).with_context(|| format!("{name} is not here"))
}

/// A program in the directories of PATH, and in those for administrators.
pub(crate) fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/sbin".into(), "/sbin".into()])
        .map(|directory| directory.join(program))
        .find(|path| path.is_file())
}
