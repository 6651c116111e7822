//! The client of the HTTP API.

use std::time::Duration;

use anyhow::{Context, bail};
use data_encoding::BASE64;
use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper::header::{AUTHORIZATION, HOST};
use hyper::{Request, Uri};
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use serde_json::Value;
use service_kit::Credentials;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_util::task::AbortOnDropHandle;

use super::screen::Sample;
use crate::server::TlsClient;

/// Time for an answer.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Maximum length of an answer, in bytes: 10,000 streams are less than that.
const MAX_ANSWER_BYTES: usize = 32 << 20;

/// A client of the HTTP API.
pub(super) struct ApiClient {
    host: String,
    port: u16,
    tls: Option<TlsClient>,
    /// The value of `Authorization`.
    authorization: Option<String>,
}

impl ApiClient {
    /// A client of the API at `url`.
    ///
    /// # Errors
    /// It is no such URL.
    pub(super) fn new(url: &str, auth: Option<Credentials>) -> anyhow::Result<Self> {
        let uri: Uri = url.parse().with_context(|| format!("{url} is no URL"))?;
        let tls = match uri.scheme_str() {
            Some("http") => None,
            Some("https") => Some(TlsClient::default()),
            _ => bail!("{url} begins with neither http:// nor https://"),
        };
        let host = uri.host().with_context(|| format!("{url} has no host"))?;
        let standard = if tls.is_some() { 443 } else { 80 };
        let basic = |auth: Credentials| {
            let text = format!("{}:{}", auth.username, auth.password);
            format!("Basic {}", BASE64.encode(text.as_bytes()))
        };
        Ok(Self {
            host: host.to_owned(),
            port: uri.port_u16().unwrap_or(standard),
            tls,
            authorization: auth.map(basic),
        })
    }

    /// How things are now.
    ///
    /// # Errors
    /// The API does not answer, or not so.
    pub(super) async fn sample(&self) -> anyhow::Result<Sample> {
        Ok(Sample {
            summaries: self.get("summaries", "data").await?,
            streams: self.get("streams", "streams").await?,
            slowest: self.get("clients?slowest=100", "clients").await?,
        })
    }

    /// The part called `field` of the answer to `request`.
    async fn get(&self, request: &str, field: &str) -> anyhow::Result<Value> {
        let asked = timeout(TIMEOUT, self.ask(request)).await;
        let place = format!("the HTTP API at {}:{}", self.host, self.port);
        let mut answer: Value = asked
            .with_context(|| format!("{place} does not answer within {} s", TIMEOUT.as_secs()))?
            .with_context(|| place.clone())?;
        let part = answer.get_mut(field).map(Value::take);
        part.with_context(|| format!("{place} answers without `{field}`: is it ours?"))
    }

    async fn ask(&self, request: &str) -> anyhow::Result<Value> {
        let host = self.host.trim_matches(['[', ']']);
        let socket = TcpStream::connect((host, self.port)).await?;
        let Some(tls) = &self.tls else {
            return self.exchange(socket, request).await;
        };
        let connector = tls.connector(None).map_err(anyhow::Error::msg)?;
        let name = ServerName::try_from(host.to_owned())?;
        self.exchange(connector.connect(name, socket).await?, request)
            .await
    }

    async fn exchange(
        &self,
        stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
        request: &str,
    ) -> anyhow::Result<Value> {
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        // An error of the connection is the request's, too.
        let _connection = AbortOnDropHandle::new(tokio::spawn(connection));
        let mut builder = Request::get(format!("/api/v1/{request}"))
            .header(HOST, format!("{}:{}", self.host, self.port));
        if let Some(value) = &self.authorization {
            builder = builder.header(AUTHORIZATION, value);
        }
        let response = sender
            .send_request(builder.body(Empty::<Bytes>::new())?)
            .await?;
        match response.status().as_u16() {
            200 => {}
            401 => bail!("it wants another user and password: see --conf, --username"),
            status => bail!("it answers with status {status}"),
        }
        let body = Limited::new(response.into_body(), MAX_ANSWER_BYTES).collect();
        let body = body.await.map_err(anyhow::Error::from_boxed)?;
        Ok(serde_json::from_slice(&body.to_bytes())?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_names_host_and_port() {
        for (url, host, port, tls) in [
            ("http://127.0.0.1:1985", "127.0.0.1", 1985, false),
            ("http://edge.example/", "edge.example", 80, false),
            ("https://[2001:db8::1]", "[2001:db8::1]", 443, true),
        ] {
            let client = ApiClient::new(url, None).unwrap();
            let named = (&*client.host, client.port, client.tls.is_some());
            assert_eq!(named, (host, port, tls), "{url}");
        }
        for url in ["127.0.0.1:1985", "rtmp://a/", "/x", ""] {
            assert!(ApiClient::new(url, None).is_err(), "{url}");
        }
    }
}
