//! docs/configuration.md shows the keywords that the code has.

use std::{env, fs};

const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/configuration.md");
const BEGIN: &str = "<!-- The tables are written by `WRITE=1 cargo test -p lb-config --test \
                     documentation`. -->\n";
const END: &str = "<!-- End of the tables. -->\n";

#[test]
fn the_tables_of_the_document_are_those_of_the_code() {
    let document = fs::read_to_string(FILE).expect("the document can be read");
    let (before, rest) = document.split_once(BEGIN).expect("the tables have a mark");
    let (tables, after) = rest.split_once(END).expect("the tables have an end");
    let expected = lb_config::keyword_tables() + "\n";
    if env::var_os("WRITE").is_some() {
        let written = [before, BEGIN, &expected, END, after].concat();
        fs::write(FILE, written).expect("the document can be written");
    } else {
        assert_eq!(tables, expected, "write them anew: {BEGIN}");
    }
}

#[test]
fn every_keyword_has_a_meaning() {
    for row in lb_config::keyword_tables().lines() {
        assert!(!row.ends_with("|  |"), "{row}");
    }
}
