//! The fuzz targets of `lb-wire`. Called by `cargo fuzz` and, with the corpus that is kept in
//! the repository, by a plain test of `lb-wire`.

use std::net::IpAddr;

use lb_wire::clients::{self, Clients, MAX_CLIENTS};
use lb_wire::flv::Answer;
use lb_wire::page::{Page, Response};
use lb_wire::{dns, list, load};

/// A page: any cut means the same.
pub fn check_page(data: &[u8]) {
    let Some((&[flags, piece], data)) = data.split_first_chunk() else {
        return;
    };
    let page = Page {
        path: "/".to_owned(),
        virtual_host: None,
        status_codes: vec![(200, 299)],
        digest: (flags & 1 != 0).then(|| "b1946ac92492d2347c6235b4d2611184".to_owned()),
        regex: (flags & 2 != 0).then(|| ("hello".to_owned(), flags & 4 == 0)),
    };
    let at_once = judge(&page, data, data.len().max(1));
    let in_pieces = judge(&page, data, usize::from(piece) + 1);
    match (at_once, in_pieces) {
        // Where the body is too long, or said to be shorter, the rest is not read.
        (Ok(_), Ok(_)) if flags & 3 != 0 => {}
        (at_once, in_pieces) => assert_eq!(at_once, in_pieces),
    }
}

/// The verdict, as it is without the rest that need not be read.
fn judge(page: &Page, data: &[u8], piece: usize) -> Result<bool, String> {
    let mut response = Response::default();
    for bytes in data.chunks(piece) {
        if response.is_enough_for(page) {
            break;
        }
        response.take(bytes, page)?;
        assert!(response.has_begun());
    }
    Ok(response.judge(page).is_ok())
}

/// A stream over HTTP-FLV: any cut means the same.
pub fn check_flv(data: &[u8]) {
    let Some((&piece, data)) = data.split_first() else {
        return;
    };
    let at_once = play(data, data.len().max(1));
    assert_eq!(play(data, usize::from(piece) + 1), at_once);
}

fn play(data: &[u8], piece: usize) -> Result<bool, String> {
    let mut answer = Answer::Head(Vec::new());
    for bytes in data.chunks(piece) {
        answer.take(bytes)?;
        // The check is over.
        if answer.has_media() {
            return Ok(true);
        }
    }
    Ok(false)
}

/// An answer to `LOAD_CHECK`: what is used does not overflow, no limit is 0.
pub fn check_load(data: &[u8]) {
    let Ok(load) = load::parse(data) else {
        return;
    };
    assert!(load.used() >= load.bits_out);
    assert_ne!(load.limit(), Some(0));
}

/// Answers of name servers.
pub fn dns_answers(data: &[u8]) {
    let Some((id, _)) = data.split_first_chunk() else {
        return;
    };
    let id = u16::from_be_bytes(*id);
    assert!(!dns::is_answer(data, !id));
    let code = dns::response_code(data, id);
    assert_eq!(code.is_some(), dns::is_answer(data, id));
    if let Ok(Some((_, ttl))) = dns::read_records(data) {
        assert!(ttl <= dns::MAX_TTL);
    }
}

/// Lists of servers: each is one that can be written and read again.
pub fn server_lists(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let servers = list::parse_list(&text).unwrap_or_default();
    for server in servers.into_iter().chain(list::parse_one(&text)) {
        let port = server.port.map_or(String::new(), |port| format!(" {port}"));
        let weight = server.weight;
        let weight = weight.map_or(String::new(), |weight| format!(" weight {weight}"));
        let line = format!("{}{port}{weight}", server.address);
        assert_eq!(list::parse_one(&line), Ok(server), "{line}");
    }
}

/// Lists of clients of another director: one that is accepted is written in the same way; none
/// is without the secret.
pub fn client_lists(data: &[u8]) {
    const SECRET: &[u8] = b"a secret that nobody guesses";
    let source = IpAddr::from([172, 16, 1, 10]);
    let read = |bytes: &[u8], secret| clients::decode(bytes, source, std::iter::once(secret));
    assert_eq!(read(data, SECRET), None);
    // As a sender would sign them.
    let signed = clients::sign(data.to_vec(), source, SECRET);
    let Some(told) = read(&signed, SECRET) else {
        return;
    };
    assert!(told.clients.len() <= MAX_CLIENTS);
    let Clients { stamp, .. } = told;
    let again = read(&clients::encode(&told, source, SECRET), SECRET);
    assert_eq!(again.as_ref().map(|it| it.stamp), Some(stamp));
    assert_eq!(again, Some(told));
    assert_eq!(read(&signed, b""), None);
}
