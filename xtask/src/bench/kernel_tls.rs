//! What TLS costs in the kernel, beside none and beside TLS in user space.
//!
//! The machines that this is measured on have no TLS in their kernels: Debian's kernels run
//! in qemu, whose clock counts instructions. What a process takes of CPU time there, in ns, is
//! the number of instructions that it took, its system calls and the loopback device included.
//! Of our origin the fan-out counts, of nginx its worker.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use clap::Args;
use comfy_table::{Table, presets};
use serde_json::{Value, json};

use super::{
    goal::align,
    process::{NGINX, build},
    setup::write_json,
};
use crate::test_kernels::{
    Series,
    image::{self, Step},
    kernels,
    machine::{self, Clock, Outcome},
    package::Kernel,
};

/// What is measured, and what measures.
const PACKAGES: [&str; 2] = ["rtmp-origin", "rtmp-load"];
/// Bytes of the file that nginx serves.
const FILE_MEGABYTES: u32 = 64;

/// What to measure.
#[derive(Debug, Clone, Args)]
pub(crate) struct Options {
    /// Only these kernels.
    #[arg(value_enum)]
    kernels: Vec<Series>,

    /// Players of HTTP-FLV, each of 2 Mbit/s.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..))]
    players: u32,

    /// Seconds measured, of the machine's own time.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..))]
    seconds: u32,

    /// Measure the release build that is there instead of building it.
    #[arg(long)]
    no_build: bool,

    /// Write all figures to this file as JSON.
    #[arg(
        long,
        value_name = "FILE",
        default_value = "target/bench/kernel-tls.json"
    )]
    json: PathBuf,
}

/// A server that is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Contender {
    /// Our origin without TLS.
    Plain,
    /// Our origin; rustls encrypts.
    UserSpace,
    /// Our origin; the kernel encrypts.
    Kernel,
    /// nginx without TLS.
    NginxPlain,
    /// nginx; OpenSSL encrypts.
    NginxUserSpace,
    /// nginx; the kernel encrypts.
    NginxKernel,
}

impl Contender {
    const ALL: [Self; 6] = [
        Self::Plain,
        Self::UserSpace,
        Self::Kernel,
        Self::NginxPlain,
        Self::NginxUserSpace,
        Self::NginxKernel,
    ];

    fn words(self) -> &'static str {
        match self {
            Self::Plain => "origin, HTTP-FLV without TLS",
            Self::UserSpace => "origin, TLS in user space",
            Self::Kernel => "origin, kernel TLS",
            Self::NginxPlain => "nginx, a file without TLS",
            Self::NginxUserSpace => "nginx, OpenSSL in user space",
            Self::NginxKernel => "nginx, kernel TLS",
        }
    }

    fn name(self) -> String {
        format!("{self:?}")
    }

    /// The same server without TLS.
    fn plain(self) -> Self {
        match self {
            Self::Plain | Self::UserSpace | Self::Kernel => Self::Plain,
            _ => Self::NginxPlain,
        }
    }

    fn commands(self, options: &Options) -> String {
        match self {
            Self::Plain => origin("http://127.0.0.1:8080", "", options),
            // The kernel has no TLS without the module.
            Self::UserSpace => origin(
                "https://127.0.0.1:8443",
                "busybox rmmod tls && trap 'busybox insmod /modules/tls.ko' EXIT",
                options,
            ),
            Self::Kernel => origin("https://127.0.0.1:8443", "", options),
            Self::NginxPlain => nginx("listen 127.0.0.1:8443;", "busybox nc 127.0.0.1 8443"),
            Self::NginxUserSpace => nginx(&nginx_tls(""), S_CLIENT),
            Self::NginxKernel => nginx(&nginx_tls("ssl_conf_command Options KTLS;"), S_CLIENT),
        }
    }
}

/// A client that prints what it receives. Its cipher is that of rtmp-load.
const S_CLIENT: &str = "openssl s_client -quiet -connect 127.0.0.1:8443 -tls1_3 \
                        -ciphersuites TLS_AES_256_GCM_SHA384";

fn nginx_tls(directive: &str) -> String {
    format!(
        "listen 127.0.0.1:8443 ssl; ssl_certificate cert.pem; ssl_certificate_key key.pem; \
         ssl_protocols TLSv1.3; {directive}"
    )
}

/// Makes a certificate, and waits for ports.
const COMMON: &str = r"set -e
printf '[req]\ndistinguished_name = dn\n[dn]\n' > openssl.conf
openssl req -config openssl.conf -x509 -nodes -days 3650 -subj /CN=localhost -addext subjectAltName=DNS:localhost -newkey ec \
    -pkeyopt ec_paramgen_curve:P-256 -keyout key.pem -out cert.pem 2>/dev/null
wait_for() {
    for try in $(busybox seq 300); do
        busybox grep -q $(printf ':%04X' $1).00000000:0000.0A /proc/net/tcp && return
        busybox sleep 0.1
    done
    echo nobody listens at port $1; busybox cat *.log; return 1
}
";

/// Has the origin serve players at `url`, after `first`; prints rtmp-load's report.
fn origin(url: &str, first: &str, options: &Options) -> String {
    let Options {
        players, seconds, ..
    } = options;
    format!(
        "{COMMON}{first}
busybox cat > origin.conf <<END
listen 127.0.0.1:1935;
workers 1;
http_server {{ enabled on; listen 127.0.0.1:8080;
    https {{ enabled on; listen 127.0.0.1:8443; key key.pem; cert cert.pem; }} }}
vhost __defaultVhost__ {{ http_remux {{ enabled on; }} min_latency off; play {{ mw_latency 350; }} }}
END
rtmp-origin -c origin.conf > origin.log 2>&1 &
origin=$!
wait_for 1935; wait_for 8443
rtmp-load --json --quiet --publish generated --audio-bitrate 0 --settle 2 --players {players} \\
    --seconds {seconds} --watch-pid $origin --publish-url rtmp://127.0.0.1:1935/live/s \\
    {url}/live/s.flv
kill $origin; wait $origin || true
busybox grep -h 'TLS: ' origin.log || true
"
    )
}

/// Has nginx serve a file to `client`; prints the CPU time of its worker and what came.
fn nginx(listener: &str, client: &str) -> String {
    format!(
        "{COMMON}
busybox mkdir -p /etc www; echo 'root:x:0:0::/:/bin/sh' > /etc/passwd; echo 'root:x:0:' > /etc/group
[ -e www/file ] || busybox dd if=/dev/urandom of=www/file bs=1M count={FILE_MEGABYTES} 2>/dev/null
busybox cat > nginx.conf <<END
user root; worker_processes 1; daemon off; pid nginx.pid;
error_log nginx.log warn;
events {{ }}
http {{ access_log off; sendfile on; default_type video/mp4;
    client_body_temp_path t1; proxy_temp_path t2; fastcgi_temp_path t3; uwsgi_temp_path t4;
    scgi_temp_path t5;
    server {{ {listener} root /tmp/www; }} }}
END
nginx -e nginx.log -p /tmp -c /tmp/nginx.conf &
nginx=$!
wait_for 8443
worker=$(busybox cat /proc/$nginx/task/$nginx/children)
before=$(busybox cut -d ' ' -f 1 /proc/$((worker))/schedstat)
(printf 'GET /file HTTP/1.0\\r\\n\\r\\n'; busybox sleep 600) | {client} 2>/dev/null \\
    | busybox head -c {bytes} | busybox wc -c > count
after=$(busybox cut -d ' ' -f 1 /proc/$((worker))/schedstat)
kill $nginx; wait $nginx || true
busybox cat nginx.log >&2
echo {{\\\"bytes\\\": $(busybox cat count), \\\"ns\\\": $((after - before))}}
",
        bytes = FILE_MEGABYTES * 1024 * 1024,
    )
}

/// Measures, prints a table, and writes the JSON file.
///
/// # Errors
/// If something did not run.
pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    let binaries = build(options.no_build, &PACKAGES)?;
    let series = match options.kernels.as_slice() {
        [] => vec![Series::Stable, Series::Backports],
        some => some.to_vec(),
    };
    let mut all = Vec::new();
    for kernel in kernels(&series, false)? {
        let figures = measure(&kernel, &binaries, options)?;
        println!(
            "Linux {}: instructions per byte that was delivered\n{}",
            kernel.release,
            table(&figures)
        );
        let figures = figures
            .iter()
            .map(|(contender, per_byte)| json!({ "server": contender.words(), "instructions_per_byte": per_byte }));
        all.push(json!({ "kernel": kernel.release, "figures": figures.collect::<Vec<_>>() }));
    }
    write_json(&options.json, &json!(all))
}

/// Instructions per byte of each.
fn measure(
    kernel: &Kernel,
    binaries: &Path,
    options: &Options,
) -> anyhow::Result<Vec<(Contender, f64)>> {
    let mut programs: Vec<_> = PACKAGES
        .iter()
        .map(|name| ((*name).to_owned(), binaries.join(name)))
        .collect();
    let mut contenders = Contender::ALL.to_vec();
    match Path::new(NGINX).exists() {
        true => programs.push(("nginx".to_owned(), NGINX.into())),
        false => contenders.retain(|it| it.plain() == Contender::Plain),
    }
    let steps: Vec<_> = contenders
        .iter()
        .map(|contender| Step {
            name: contender.name(),
            commands: contender.commands(options),
        })
        .collect();
    let directory = tempfile::tempdir()?;
    let image = image::build(directory.path(), kernel, &programs, &steps)?;
    let names = steps.iter().map(|step| step.name.as_str()).collect();
    let mut figures = Vec::new();
    machine::run(kernel, &image, Clock::Instructions, names, |outcome| {
        let contender = contenders.iter().find(|it| it.name() == outcome.step);
        if let Some(contender) = contender {
            let per_byte = per_byte(*contender, &outcome);
            eprintln!("{}: {per_byte:.2?}", contender.words());
            figures.push((*contender, per_byte));
        }
    })?;
    let figures = figures.into_iter();
    figures
        .map(|(contender, per_byte)| Ok((contender, per_byte?)))
        .collect()
}

/// Instructions per byte, by what was printed.
fn per_byte(contender: Contender, outcome: &Outcome) -> anyhow::Result<f64> {
    let said = || format!("{}:\n{}", contender.words(), outcome.output);
    let kernel_encrypts = outcome.output.contains("TLS: the kernel encrypts");
    let start = outcome.output.find('{').with_context(said)?;
    let mut values = serde_json::Deserializer::from_str(&outcome.output[start..]).into_iter();
    let report: Value = values.next().with_context(said)?.with_context(said)?;
    let number = |path: &str| report.pointer(path).and_then(Value::as_f64);
    match contender {
        Contender::Plain | Contender::UserSpace | Contender::Kernel => {
            if (contender == Contender::UserSpace) == kernel_encrypts {
                bail!("the origin says of itself: {}", said());
            }
            if number("/frames/delivered").is_none_or(|delivered| delivered < 0.999) {
                bail!("not all was delivered: {}", said());
            }
            // The publisher is read by another thread, whatever the players are.
            let threads = report
                .pointer("/watched/0/threads")
                .and_then(Value::as_array);
            let threads = threads.with_context(said)?.iter();
            let fanout = threads.filter(|it| it["name"].as_str() == Some("fanout-0"));
            let seconds: f64 = fanout.filter_map(|it| it["cpu_s"].as_f64()).sum();
            Ok(seconds * 1e9 / number("/received/bytes").with_context(said)?)
        }
        _ => {
            let (bytes, ns) = number("/bytes").zip(number("/ns")).with_context(said)?;
            if bytes < f64::from(FILE_MEGABYTES) * 1e6 {
                bail!("not all was delivered: {}", said());
            }
            Ok(ns / bytes)
        }
    }
}

fn table(figures: &[(Contender, f64)]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::ASCII_MARKDOWN);
    table.set_header(["server", "instructions per byte", "× plain"]);
    for (contender, per_byte) in figures {
        let plain = figures.iter().find(|(it, _)| *it == contender.plain());
        table.add_row([
            contender.words().to_owned(),
            format!("{per_byte:.2}"),
            plain.map_or(String::new(), |(_, plain)| {
                format!("{:.1}", per_byte / plain)
            }),
        ]);
    }
    align(&mut table, 1);
    table
}
