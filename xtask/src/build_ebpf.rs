//! `cargo xtask build-ebpf`: the XDP program, with whichever toolchain is there.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

use anyhow::{Context as _, bail};
use object::build::elf::{Builder, SectionData};
use object::elf::SHT_STRTAB;

use crate::ebpf_sources::{FINGERPRINT, OBJECT, SECOND_CHANCE, fingerprint};

/// `core` is built from source, so the toolchain must carry it.
const CORE_SOURCE: &str = "lib/rustlib/src/rust/library/core/Cargo.toml";

/// Where the programs go that the data plane is measured against.
const BASELINES: &str = "target/bpf/baselines";

const TARGET: &str = "bpfel-unknown-none";

/// Without `--btf` the maps would have no types, and aya no maps. Instruction
/// set 3 (Linux 5.1, its atomics 5.12) spares shifts and zero extensions. Words
/// in frames are aligned to 2 bytes only; loading them in one piece is what the
/// verifier allows wherever the processor does.
const RUSTFLAGS: &str = "-C debuginfo=2 -C link-arg=--btf -C target-cpu=v3 \
                         -C link-arg=--cpu-features=+allows-misaligned-mem-access";

/// What steers the cargo that started us must not steer the one that we start.
const INHERITED: [&str; 8] = [
    "CARGO",
    "CARGO_BUILD_TARGET",
    "CARGO_ENCODED_RUSTFLAGS",
    "RUSTC",
    "RUSTC_WORKSPACE_WRAPPER",
    "RUSTC_WRAPPER",
    "RUSTDOC",
    "RUSTUP_TOOLCHAIN",
];

/// Builds the object, copies it to where `lb-user` embeds it from, and leaves
/// the fingerprint of its sources beside it.
pub(crate) fn run() -> anyhow::Result<()> {
    let workspace = workspace();
    find_linker()?;
    let toolchain = Toolchain::find()?;
    println!("building lb-ebpf with {}", toolchain.name);

    let sources = fingerprint(&workspace).context("cannot read the sources of lb-ebpf")?;
    let build_dir = workspace.join("lb-ebpf/target");
    let status = toolchain
        .cargo()
        .args([
            "build",
            "--release",
            "--locked",
            "-Z",
            "build-std=core",
            "--target",
            TARGET,
        ])
        .arg("--target-dir")
        .arg(&build_dir)
        .current_dir(workspace.join("lb-ebpf"))
        .env("RUSTFLAGS", RUSTFLAGS)
        .status()
        .with_context(|| format!("cannot start cargo of {}", toolchain.name))?;
    if !status.success() {
        bail!(
            "lb-ebpf did not build with {}; if the linker complains of an unknown attribute or \
             record, bpf-linker was built for an older LLVM than this compiler's ({})",
            toolchain.name,
            toolchain.llvm_version(),
        );
    }

    let built = build_dir.join(TARGET).join("release");
    for (name, object) in [
        ("lb-ebpf", OBJECT),
        ("second-chance", SECOND_CHANCE),
        ("baselines", BASELINES),
    ] {
        install(&built.join(name), &workspace.join(object))?;
    }
    write_if_changed(&workspace.join(FINGERPRINT), sources.as_bytes())
}

fn install(built: &Path, object: &Path) -> anyhow::Result<()> {
    let parent = object.parent().expect("objects lie in a directory");
    fs::create_dir_all(parent).with_context(|| format!("cannot create {}", parent.display()))?;
    let bytes = fs::read(built).with_context(|| format!("cannot read {}", built.display()))?;
    let bytes = without_debug_sections(&bytes)
        .with_context(|| format!("cannot make sense of {}", built.display()))?;
    write_if_changed(object, &bytes)?;
    println!("{} ({} bytes)", object.display(), bytes.len());
    Ok(())
}

/// The object without what debuggers alone read (DWARF), most of it, which the agent would go
/// through at each start. The types and lines that the kernel reads (BTF) stay.
fn without_debug_sections(object: &[u8]) -> object::build::Result<Vec<u8>> {
    let mut builder = Builder::read(object)?;
    for section in &mut builder.sections {
        if section.name.starts_with(b".debug_") || section.name.starts_with(b".rel.debug_") {
            section.delete = true;
        }
    }
    builder.delete_orphans();
    // LLVM leaves the names of sections among those of symbols, which the builder does not.
    let names = builder.sections.add();
    names.name = b".shstrtab".as_slice().into();
    names.sh_type = SHT_STRTAB;
    names.data = SectionData::SectionString;
    let mut stripped = Vec::new();
    builder.write(&mut stripped)?;
    Ok(stripped)
}

/// Leaves a file alone that holds `bytes` already: cargo builds `lb-user` anew when
/// one that it embeds has been written.
fn write_if_changed(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    if fs::read(path).is_ok_and(|present| present == bytes) {
        return Ok(());
    }
    fs::write(path, bytes).with_context(|| format!("cannot write {}", path.display()))
}

fn workspace() -> PathBuf {
    let own = Path::new(env!("CARGO_MANIFEST_DIR"));
    own.parent()
        .expect("xtask lies in the workspace")
        .to_owned()
}

fn find_linker() -> anyhow::Result<()> {
    if Command::new("bpf-linker")
        .arg("--version")
        .output()
        .is_ok_and(|out| out.status.success())
    {
        return Ok(());
    }
    bail!(
        "bpf-linker is not installed or not in PATH. `scripts/setup.sh` installs it; by hand:\n\
         \x20 with a rustup nightly:   cargo install bpf-linker\n\
         \x20 with Debian's compiler:  sudo apt-get install llvm-22-dev libpolly-22-dev && \\\n\
         \x20                          LLVM_PREFIX=/usr/lib/llvm-22 cargo install bpf-linker \
         --no-default-features --features llvm-22"
    )
}

/// A compiler that carries the source of `core`.
struct Toolchain {
    name: String,
    rustc: PathBuf,
    cargo: PathBuf,
    nightly: bool,
}

impl Toolchain {
    /// A rustup nightly, else rustup's current toolchain, else Debian's.
    fn find() -> anyhow::Result<Self> {
        let candidates = rustup_toolchains().into_iter().chain(debian());
        let mut refused = Vec::new();
        for candidate in candidates {
            match candidate.sysroot() {
                Some(sysroot) if sysroot.join(CORE_SOURCE).is_file() => return Ok(candidate),
                Some(_) => refused.push(format!("{} lacks rust-src", candidate.name)),
                None => refused.push(format!("{} does not run", candidate.name)),
            }
        }
        let seen = if refused.is_empty() {
            "none found".to_owned()
        } else {
            refused.join(", ")
        };
        bail!(
            "no Rust toolchain here carries the source of `core` ({seen}). \
             Install one of these:\n\
             \x20 rustup toolchain install nightly --component rust-src\n\
             \x20 rustup component add rust-src\n\
             \x20 sudo apt-get install rustc-web cargo-web rust-web-src   (Debian)"
        )
    }

    fn sysroot(&self) -> Option<PathBuf> {
        let output = clean(&self.rustc)
            .args(["--print", "sysroot"])
            .output()
            .ok()?;
        let path = String::from_utf8(output.stdout).ok()?;
        (output.status.success() && !path.is_empty()).then(|| path.trim_end().into())
    }

    fn cargo(&self) -> Command {
        let mut command = clean(&self.cargo);
        command.env("RUSTC", &self.rustc);
        if !self.nightly {
            command.env("RUSTC_BOOTSTRAP", "1");
        }
        command
    }

    fn llvm_version(&self) -> String {
        let output = clean(&self.rustc).arg("-vV").output();
        let text = output.map(|out| String::from_utf8_lossy(&out.stdout).into_owned());
        text.unwrap_or_default()
            .lines()
            .find_map(|line| line.strip_prefix("LLVM version: "))
            .unwrap_or("of unknown version")
            .to_owned()
    }
}

/// A command free of what the outer cargo and rustup have set.
fn clean(program: &Path) -> Command {
    let mut command = Command::new(program);
    for variable in INHERITED {
        command.env_remove(variable);
    }
    command
}

/// The nightlies that rustup has, then its current toolchain.
fn rustup_toolchains() -> Vec<Toolchain> {
    let rustup = |arguments: &[&str]| -> Option<String> {
        let mut command = Command::new("rustup");
        for variable in INHERITED
            .iter()
            .filter(|variable| **variable != "RUSTUP_TOOLCHAIN")
        {
            command.env_remove(variable);
        }
        let output = command.args(arguments).output().ok()?;
        output
            .status
            .success()
            .then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    let installed = rustup(&["toolchain", "list"]).unwrap_or_default();
    let nightlies = installed
        .lines()
        .filter_map(|line| line.split_whitespace().next())
        .filter(|name| name.starts_with("nightly"))
        .map(|name| (name.to_owned(), vec!["which", "--toolchain", name]));
    let current = [("rustup's current toolchain".to_owned(), vec!["which"])];
    nightlies
        .chain(current)
        .filter_map(|(name, which)| {
            let path = |tool: &str| rustup(&[&which[..], &[tool]].concat()).map(PathBuf::from);
            let nightly = name.starts_with("nightly");
            Some(Toolchain {
                name,
                rustc: path("rustc")?,
                cargo: path("cargo")?,
                nightly,
            })
        })
        .collect()
}

/// Debian's `rustc-web`, `cargo-web` and `rust-web-src` live in /usr.
fn debian() -> Option<Toolchain> {
    let (rustc, cargo) = (
        PathBuf::from("/usr/bin/rustc"),
        PathBuf::from("/usr/bin/cargo"),
    );
    (rustc.is_file() && cargo.is_file()).then(|| Toolchain {
        name: "the distribution's rustc".to_owned(),
        rustc,
        cargo,
        nightly: false,
    })
}
