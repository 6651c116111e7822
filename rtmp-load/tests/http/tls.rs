//! Players whose connections have TLS, through a proxy that ends it.

use std::{fs, io, net::SocketAddr, process::Command, sync::Arc};

use rustls::{
    ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
};
use tempfile::TempDir;
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    runtime::Runtime,
};
use tokio_rustls::TlsAcceptor;

use crate::{origin::Origin, run::report};

/// A server of TLS before one without.
struct Proxy {
    address: SocketAddr,
    _runtime: Runtime,
}

impl Proxy {
    fn start(target: SocketAddr) -> Self {
        let configuration =
            ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
                .with_safe_default_protocol_versions()
                .unwrap()
                .with_no_client_auth();
        let (certificate, key) = certificate();
        let configuration = configuration
            .with_single_cert(vec![certificate], key)
            .unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(configuration));
        let runtime = Runtime::new().unwrap();
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let address = listener.local_addr().unwrap();
        runtime.spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let acceptor = acceptor.clone();
                tokio::spawn(async move {
                    let mut client = acceptor.accept(client).await?;
                    let mut server = TcpStream::connect(target).await?;
                    copy_bidirectional(&mut client, &mut server).await?;
                    Ok::<(), io::Error>(())
                });
            }
        });
        Self {
            address,
            _runtime: runtime,
        }
    }
}

/// A certificate that nobody has signed but its own key.
fn certificate() -> (CertificateDer<'static>, PrivateKeyDer<'static>) {
    let folder = TempDir::new().unwrap();
    let (certificate, key) = (folder.path().join("c.pem"), folder.path().join("k.pem"));
    let mut command = Command::new("openssl");
    command.args("req -x509 -nodes -newkey ec -pkeyopt ec_paramgen_curve:P-256".split(' '));
    command.args("-subj /CN=test -days 2 -keyout".split(' '));
    command.arg(&key).arg("-out").arg(&certificate);
    let output = command.output().expect("openssl is installed");
    assert!(output.status.success(), "{output:?}");
    (
        CertificateDer::from_pem_slice(&fs::read(certificate).unwrap()).unwrap(),
        PrivateKeyDer::from_pem_slice(&fs::read(key).unwrap()).unwrap(),
    )
}

#[test]
fn players_and_publishers_of_every_protocol_may_have_tls() {
    let origin = Origin::start("min_latency on;");
    let (rtmp, http) = (Proxy::start(origin.rtmp), Proxy::start(origin.http));
    let publish = format!("rtmps://{}/live/s", rtmp.address);
    for url in [
        publish.clone(),
        format!("https://{}/live/s.flv", http.address),
        format!("wss://{}/live/s.flv", http.address),
    ] {
        let options = format!("-n 4 --publish generated --publish-url {publish} --verify");
        let report = report(&url, &options);
        assert!(report.is_healthy(), "{report}");
        let frames = report.frames.as_ref().expect("frames were stamped");
        assert_eq!((frames.lost, frames.corrupt), (0, 0), "{report}");
    }
}
