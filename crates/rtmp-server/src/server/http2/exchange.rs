//! One request and its answer: passed on by HTTP/1.1, over a pair of sockets.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use hyper::body::Incoming;
use hyper::header::{CONNECTION, HOST, HeaderName, HeaderValue, TRANSFER_ENCODING, UPGRADE};
use hyper::{Request, Response, StatusCode};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::OwnedSemaphorePermit;

use super::UnderWay;
use super::body::PairBody;
use crate::server::Server;
use crate::server::accept::serve_http;
use crate::server::client::Client;

/// The most bytes of an answer's head.
const MAX_HEAD_BYTES: usize = 16 * 1024;
/// The most header fields of an answer.
const MAX_FIELDS: usize = 32;

/// Answers `request` of the connection of `parent`.
pub(super) async fn answer(
    server: Arc<Server>,
    parent: Arc<Client>,
    request: Request<Incoming>,
    mut under_way: UnderWay,
) -> Response<PairBody> {
    let exchanged = match under_way.are_too_many_given_up() {
        true => Err(too_many_given_up()),
        false => exchange(&server, &parent, &request, under_way.place().await).await,
    };
    under_way.answered();
    match exchanged {
        Ok((response, pair, begun)) => {
            let (parts, ()) = response.into_parts();
            Response::from_parts(parts, PairBody::new(pair, begun, under_way))
        }
        Err((status, reason)) => {
            log::info!("{parent}: HTTP/2: refused: {reason}");
            let mut response = Response::new(PairBody::of_text(format!("{reason}\n")));
            *response.status_mut() = status;
            response
        }
    }
}

fn too_many_given_up() -> (StatusCode, String) {
    let reason = "too many requests were given up over this connection".to_owned();
    (StatusCode::TOO_MANY_REQUESTS, reason)
}

type Exchanged = (Response<()>, UnixStream, Bytes);

/// Passes `request` on; returns the answer's head, and what its body comes from. `place` is
/// held until the connection within this process has ended, which a reset does not do at once.
async fn exchange(
    server: &Arc<Server>,
    parent: &Client,
    request: &Request<Incoming>,
    place: OwnedSemaphorePermit,
) -> Result<Exchanged, (StatusCode, String)> {
    let head = head(request).ok_or((StatusCode::BAD_REQUEST, "no such request".to_owned()))?;
    let client = server
        .add_client(parent.peer)
        .map_err(|limit| (StatusCode::SERVICE_UNAVAILABLE, limit.to_string()))?;
    if let Some(place) = parent.tls_place() {
        client.set_tls(place);
    }
    client.set_carrier(parent.id, place);
    let failed = |error: io::Error| (StatusCode::SERVICE_UNAVAILABLE, error.to_string());
    let (mut ours, theirs) = match pair() {
        Ok(pair) => pair,
        Err(error) => {
            server.clients.remove(client.id, false);
            return Err(failed(error));
        }
    };
    log::debug!("{parent}: {client} is a request of it by HTTP/2");
    serve_http(server.clone(), client, theirs.into());
    ours.write_all(&head).await.map_err(failed)?;
    let mut input = BytesMut::new();
    loop {
        if let Some((response, length)) = parse(&input).map_err(failed)? {
            let begun = input.split_off(length).freeze();
            return Ok((response, ours, begun));
        }
        if input.len() > MAX_HEAD_BYTES || ours.read_buf(&mut input).await.map_err(failed)? == 0 {
            let reason = "the connection ended without an answer".to_owned();
            return Err((StatusCode::SERVICE_UNAVAILABLE, reason));
        }
    }
}

/// The two ends of a connection within this process. The second is what a TCP connection is
/// to those who read and write it.
fn pair() -> io::Result<(UnixStream, TcpStream)> {
    let (ours, theirs) = std::os::unix::net::UnixStream::pair()?;
    ours.set_nonblocking(true)?;
    theirs.set_nonblocking(true)?;
    let theirs = std::net::TcpStream::from(OwnedFd::from(theirs));
    Ok((UnixStream::from_std(ours)?, TcpStream::from_std(theirs)?))
}

/// The head of `request` by HTTP/1.1; `None` if it has none.
fn head(request: &Request<Incoming>) -> Option<Vec<u8>> {
    let target = request.uri().path_and_query()?.as_str();
    let mut head = format!("{} {target} HTTP/1.1\r\n", request.method()).into_bytes();
    let mut field = |name: &HeaderName, value: &[u8]| {
        head.extend_from_slice(name.as_str().as_bytes());
        head.extend_from_slice(b": ");
        head.extend_from_slice(value);
        head.extend_from_slice(b"\r\n");
    };
    match request.uri().authority() {
        Some(authority) => field(&HOST, authority.as_str().as_bytes()),
        None => field(&HOST, request.headers().get(HOST)?.as_bytes()),
    }
    for (name, value) in request.headers() {
        // A connection's own fields do not travel (RFC 9113 §8.2.2).
        if ![HOST, CONNECTION, UPGRADE, TRANSFER_ENCODING].contains(name) {
            field(name, value.as_bytes());
        }
    }
    field(&CONNECTION, b"close");
    head.extend_from_slice(b"\r\n");
    Some(head)
}

/// Reads the head of an answer, and its length in bytes; `None` if it is not complete.
fn parse(input: &[u8]) -> io::Result<Option<(Response<()>, usize)>> {
    let mut fields = [httparse::EMPTY_HEADER; MAX_FIELDS];
    let mut parsed = httparse::Response::new(&mut fields);
    let wrong = |error: httparse::Error| io::Error::other(error);
    let httparse::Status::Complete(length) = parsed.parse(input).map_err(wrong)? else {
        return Ok(None);
    };
    let mut response = Response::new(());
    let status = StatusCode::from_u16(parsed.code.unwrap_or(0)).map_err(io::Error::other)?;
    *response.status_mut() = status;
    for field in parsed.headers.iter() {
        let name = HeaderName::from_bytes(field.name.as_bytes()).map_err(io::Error::other)?;
        if name != CONNECTION {
            let value = HeaderValue::from_bytes(field.value).map_err(io::Error::other)?;
            response.headers_mut().append(name, value);
        }
    }
    Ok(Some((response, length)))
}
