//! An HTTP server for tests that shares nothing with the project's own and says
//! what it is told to.

use std::{
    io::{BufRead, BufReader, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::Arc,
    thread,
};

/// A request, as far as a test needs it.
pub(crate) struct Request {
    /// The path with its query.
    pub(crate) target: String,
    /// First and last byte of the range that is asked for.
    pub(crate) range: Option<(usize, usize)>,
}

/// A server on a port of its own.
pub(crate) struct Scripted {
    address: SocketAddr,
}

impl Scripted {
    /// Starts one that answers each request with these bytes.
    pub(crate) fn answers(answer: impl Fn(&Request) -> Vec<u8> + Send + Sync + 'static) -> Self {
        let answer = Arc::new(answer);
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        thread::spawn(move || {
            for socket in listener.incoming() {
                let (socket, answer) = (socket.unwrap(), Arc::clone(&answer));
                socket.set_nodelay(true).unwrap();
                thread::spawn(move || serve(socket, answer.as_ref()));
            }
        });
        Self { address }
    }

    /// The URL of a path on it.
    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}/{path}", self.address)
    }
}

fn serve(mut socket: TcpStream, answer: &dyn Fn(&Request) -> Vec<u8>) {
    let mut requests = BufReader::new(socket.try_clone().unwrap());
    while let Some(request) = next(&mut requests) {
        if socket.write_all(&answer(&request)).is_err() {
            return;
        }
    }
}

/// The next request; `None` at the end of the connection.
fn next(requests: &mut impl BufRead) -> Option<Request> {
    let mut request = None;
    let mut line = String::new();
    while requests.read_line(&mut line).ok()? > 0 {
        let text = line.trim_end();
        match &mut request {
            None => {
                let target = text.split(' ').nth(1)?.to_owned();
                let range = None;
                request = Some(Request { target, range });
            }
            Some(_) if text.is_empty() => return request,
            Some(request) => {
                if let Some(range) = text.strip_prefix("Range: bytes=") {
                    let (first, last) = range.split_once('-')?;
                    request.range = Some((first.parse().ok()?, last.parse().ok()?));
                }
            }
        }
        line.clear();
    }
    None
}
