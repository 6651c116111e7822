//! Debian's kernel packages: fetched with apt, unpacked, not installed.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::{fs, io};

use anyhow::{Context as _, bail};

use super::Missing;

/// A kernel as its package brings it.
pub(crate) struct Kernel {
    /// As `uname -r` says it.
    pub(crate) release: String,
    /// What boots.
    pub(crate) image: PathBuf,
    /// Modules, in the order in which they can be loaded.
    pub(crate) modules: Vec<PathBuf>,
}

/// The package that depends on the newest kernel for ordinary machines.
const NEWEST: &str = "linux-image-amd64";
const PREFIX: &str = "linux-image-";

const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// What the tests need that is no part of the image.
const REQUIRED: [&str; 5] = ["veth", "sch_ingress", "cls_bpf", "aesni-intel", "tls"];

/// Where they are, below `kernel`, with the ciphers of TLS.
const PARTS: [&str; 7] = [
    "drivers/net/veth",
    "net/sched/sch_ingress",
    "net/sched/cls_bpf",
    "net/tls/*",
    "crypto/*",
    "lib/crypto/*",
    "arch/x86/crypto/*",
];

/// The modules in the order in which they can be loaded. Of the ciphers, what is a module of
/// one kernel is part of another, or has another name there.
const MODULES: [&str; 16] = [
    "veth",
    "sch_ingress",
    "cls_bpf",
    "gf128mul",
    "crypto_null",
    "ghash-generic",
    "ctr",
    "gcm",
    "cryptd",
    "crypto_simd",
    "aesni-intel",
    "libchacha",
    "libpoly1305",
    "chacha_generic",
    "poly1305_generic",
    "chacha20poly1305",
];

/// The kernel in `place`, fetched there from `source` if it is not there or
/// `refresh` is true.
pub(crate) fn kernel(
    place: &Path,
    source: &str,
    refresh: bool,
) -> anyhow::Result<Result<Kernel, Missing>> {
    if refresh || !is_complete(place) {
        let mut scratch = place.as_os_str().to_owned();
        scratch.push(".new");
        let scratch = PathBuf::from(scratch);
        if scratch.exists() {
            fs::remove_dir_all(&scratch).context("cannot clear an earlier attempt")?;
        }
        fs::create_dir_all(&scratch)
            .with_context(|| format!("cannot make {}", scratch.display()))?;
        let unpacked = match Apt::new(&scratch, source).and_then(|apt| apt.fetch()) {
            Ok(package) => {
                println!("unpacking {}", package.display());
                unpack(&package, &scratch.join("kernel"))?
            }
            Err(why) => return Ok(Err(Missing(format!("{why:#}")))),
        };
        if place.exists() {
            fs::remove_dir_all(place).context("cannot remove the former kernel")?;
        }
        fs::rename(unpacked, place).context("cannot put the kernel in its place")?;
        fs::remove_dir_all(&scratch).context("cannot clear up")?;
    }
    find(place).map(Ok)
}

/// apt with lists and caches of its own: it neither needs root nor sees what
/// this machine is set up to install from.
struct Apt<'a> {
    directory: &'a Path,
}

impl<'a> Apt<'a> {
    fn new(directory: &'a Path, source: &str) -> anyhow::Result<Self> {
        if !Path::new(KEYRING).exists() {
            bail!("there is no {KEYRING} to trust Debian's packages by");
        }
        for part in ["lists/partial", "cache/archives/partial"] {
            fs::create_dir_all(directory.join(part)).context("cannot make apt's directories")?;
        }
        fs::write(
            directory.join("sources.list"),
            format!("deb [signed-by={KEYRING}] {source}\n"),
        )
        .context("cannot write apt's sources")?;
        Ok(Self { directory })
    }

    fn run(&self, program: &str, arguments: &[&str]) -> anyhow::Result<String> {
        let own = |name: &str| self.directory.join(name).display().to_string();
        let output = Command::new(program)
            .args(["-o", "Dir::Etc::sourceparts=-", "-o"])
            .arg(format!("Dir::Etc::sourcelist={}", own("sources.list")))
            .arg("-o")
            .arg(format!("Dir::State::lists={}", own("lists")))
            .arg("-o")
            .arg(format!("Dir::Cache={}", own("cache")))
            // Root's directory is not open to apt's own user.
            .args(["-o", "APT::Sandbox::User=", "-qq"])
            .args(arguments)
            .current_dir(self.directory)
            .stdin(Stdio::null())
            .output()
            .with_context(|| format!("cannot start {program}"))?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr);
            let last = said.trim().lines().last().unwrap_or("nothing");
            bail!("{program} {} says: {last}", arguments.join(" "));
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Downloads the newest kernel's package.
    fn fetch(&self) -> anyhow::Result<PathBuf> {
        self.run("apt-get", &["--error-on=any", "update"])?;
        let depends = self.run("apt-cache", &["depends", NEWEST])?;
        let package = depends
            .lines()
            .find_map(|line| line.trim().strip_prefix("Depends: "))
            .filter(|name| name.starts_with(PREFIX))
            .with_context(|| format!("{NEWEST} depends on no kernel"))?;
        println!("fetching {package}");
        self.run("apt-get", &["download", package])?;
        entries(self.directory)?
            .into_iter()
            .find(|path| path.extension().is_some_and(|end| end == "deb"))
            .with_context(|| format!("apt-get has not downloaded {package}"))
    }
}

/// Takes what is needed out of `package`; returns `target`.
fn unpack(package: &Path, target: &Path) -> anyhow::Result<PathBuf> {
    fs::create_dir(target).context("cannot make a directory")?;
    let mut archive = Command::new("dpkg-deb")
        .arg("--fsys-tarfile")
        .arg(package)
        .stdout(Stdio::piped())
        .spawn()
        .context("cannot start dpkg-deb")?;
    let contents = archive.stdout.take().expect("it is piped");
    let extracted = Command::new("tar")
        .args(["--extract", "--wildcards", "--directory"])
        .arg(target)
        .arg("*/vmlinuz-*")
        .args(PARTS.map(|part| format!("*/kernel/{part}.ko*")))
        .stdin(contents)
        .status()
        .context("cannot start tar")?;
    let unpacked = archive.wait().context("dpkg-deb vanished")?;
    if !(extracted.success() && unpacked.success()) {
        bail!("cannot unpack {}", package.display());
    }
    for module in modules(&release(target)?, target)? {
        if module.extension().is_some_and(|end| end == "xz") {
            // busybox's insmod takes none that is packed.
            let unpacked = Command::new("busybox").arg("unxz").arg(&module).status();
            if !unpacked.context("cannot start busybox")?.success() {
                bail!("cannot unpack {}", module.display());
            }
        }
    }
    Ok(target.to_owned())
}

/// The kernel that was unpacked to `place`.
fn find(place: &Path) -> anyhow::Result<Kernel> {
    let release = release(place)?;
    Ok(Kernel {
        image: place.join("boot").join(format!("vmlinuz-{release}")),
        modules: modules(&release, place)?,
        release,
    })
}

fn release(place: &Path) -> anyhow::Result<String> {
    entries(&place.join("boot"))?
        .iter()
        .filter_map(|path| path.file_name()?.to_str()?.strip_prefix("vmlinuz-"))
        .map(str::to_owned)
        .next()
        .with_context(|| format!("no kernel in {}; try --refresh", place.display()))
}

fn modules(release: &str, place: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let root = ["lib", "usr/lib"]
        .map(|lib| place.join(lib).join("modules").join(release).join("kernel"))
        .into_iter()
        .find(|root| root.is_dir())
        .with_context(|| format!("no modules in {}; try --refresh", place.display()))?;
    let mut files = Vec::new();
    find_files(&root, &mut files)?;
    let find = |module: &str| {
        let names = ["ko", "ko.xz"].map(|end| format!("{module}.{end}"));
        let is_it = |file: &&PathBuf| names.iter().any(|name| file.ends_with(name));
        files.iter().find(is_it).cloned()
    };
    if let Some(module) = REQUIRED.into_iter().find(|module| find(module).is_none()) {
        bail!("no module {module} in {}; try --refresh", place.display());
    }
    Ok(wanted().filter_map(find).collect())
}

/// The names of all modules, in the order in which they can be loaded.
fn wanted() -> impl Iterator<Item = &'static str> {
    // Last: it looks for the ciphers.
    MODULES.into_iter().chain(["tls"])
}

/// True if a kernel with all that is required was unpacked to `place`.
fn is_complete(place: &Path) -> bool {
    place.is_dir() && find(place).is_ok()
}

/// All files below `directory`.
fn find_files(directory: &Path, files: &mut Vec<PathBuf>) -> anyhow::Result<()> {
    for path in entries(directory)? {
        if path.is_dir() {
            find_files(&path, files)?;
        } else {
            files.push(path);
        }
    }
    Ok(())
}

fn entries(directory: &Path) -> anyhow::Result<Vec<PathBuf>> {
    fs::read_dir(directory)
        .and_then(|entries| {
            entries
                .map(|entry| Ok(entry?.path()))
                .collect::<io::Result<_>>()
        })
        .with_context(|| format!("cannot read {}", directory.display()))
}
