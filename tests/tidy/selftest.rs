//! Shows of every check that it fails on a bad example and passes on a good one.
//!
//! Purpose: a check that cannot fail is a defect.
//! Invariants: examples are strings; nothing is read from the tree.
//! Non-goals: completeness of the checks.
//! Sources: style.md §6.

use crate::checks::{self, Grants};
use crate::source::{Source, mask, paths};

fn at(path: &str, text: &str) -> Source {
    Source::new(path, text)
}

/// How many faults a check finds in `text`, were it the file `path`.
fn count(check: fn(&Source) -> Vec<String>, path: &str, text: &str) -> usize {
    check(&at(path, text)).len()
}

#[test]
fn masking_blanks_comments_and_strings_and_keeps_offsets() {
    let text = "let a = \"x // \\\" y\"; // fn\n/* { /* } */ */ let b = r#\"un\"safe\"#; let c = '{'; let d: &'a str;";
    let masked = mask(text);
    assert_eq!(masked.len(), text.len());
    for gone in ["x //", "fn", "}", "{", "safe"] {
        assert!(!masked.contains(gone), "{gone} in {masked}");
    }
    assert!(masked.contains("let b = r#\"") && masked.contains("&'a str"), "{masked}");
}

#[test]
fn groups_of_use_are_taken_apart() {
    let found: Vec<String> = paths(
        "use crate::{base::{self, Reader as R}, net::udp::*};\nlet x = crate::sip::parse();",
        "crate",
    )
    .into_iter()
    .map(|(_, path)| path)
    .collect();
    assert_eq!(
        found,
        ["crate::base::self", "crate::base::Reader", "crate::net::udp::*", "crate::sip::parse"]
    );
}

#[test]
fn long_files_and_functions_are_found() {
    assert_eq!(count(checks::file_length, "src/net/a.rs", &"//\n".repeat(600)), 0);
    assert_eq!(count(checks::file_length, "src/net/a.rs", &"//\n".repeat(601)), 1);
    let body = |lines: usize| format!("fn a(b: [u8; 4]) {{\n{}}}\n", "  b;\n".repeat(lines - 2));
    assert_eq!(count(checks::function_length, "src/net/a.rs", &body(70)), 0);
    assert_eq!(count(checks::function_length, "src/net/a.rs", &body(71)), 1);
}

#[test]
fn imports_from_above_and_beside_are_found() {
    let grants = Grants::parse("Text.\n- `arrow: work -> ops` because\narrow: net -> call\n");
    let faults = |path: &str, text: &str| checks::import_layers(&at(path, text), &grants).len();
    assert_eq!(faults("src/net/a.rs", "use crate::base::Reader;\nuse crate::net::Udp;"), 0);
    assert_eq!(faults("src/net/a.rs", "use crate::sip::Message;"), 1);
    assert_eq!(
        faults("src/net/a.rs", "fn a() { crate::call::Table::new(); }"),
        1,
        "no arrow goes up"
    );
    assert_eq!(faults("src/base/a.rs", "use crate::{\n base::Reader,\n archive::Disk};"), 1);
    assert_eq!(faults("src/work/a.rs", "use crate::ops::Metrics;"), 0);
    assert_eq!(faults("src/work/a.rs", "use crate::capture::Ring;"), 1);
    assert_eq!(faults("src/net/a.rs", "use super::super::sip::Message;"), 1);
    assert_eq!(faults("src/net/a.rs", "use super::Udp;"), 0);
    assert_eq!(faults("src/strange/a.rs", ""), 1);
}

#[test]
fn panics_in_input_folders_are_found() {
    let faults = |text: &str| count(checks::no_panic_from_input, "src/sip/a.rs", text);
    assert_eq!(faults("fn a(b: &[u8]) -> Option<u8> { b.get(1).copied() }"), 0);
    assert_eq!(faults("fn a() { b.unwrap(); c.expect(\"x\"); }"), 2);
    assert_eq!(faults("fn a() { b[1]; c()[2..]; d[0][1]; }"), 4);
    assert_eq!(
        faults(
            "#[derive(Debug)]\nfn a<'a>(b: &'a [u8], c: [[u8; 2]; 3]) { vec![1]; let [x, y] = z; }"
        ),
        0
    );
    assert_eq!(faults("fn a() { b as u8; c as usize; }"), 2);
    assert_eq!(faults("fn a() { b as f64; }\nuse c as u8;"), 0);
    assert_eq!(faults("#[cfg(test)]\nmod tests { fn a() { b.unwrap(); c[1]; } }"), 0);
    assert_eq!(faults("#[cfg(test)]\nuse c;\nfn a() { b.unwrap(); }"), 1);
    assert_eq!(
        faults("// tidy: in bounds because a u8 indexes a table of 256\nlet x = TABLE[i];"),
        0
    );
    assert_eq!(
        count(checks::no_panic_from_input, "src/sip/a_tests.rs", "fn a() { b.unwrap(); }"),
        0
    );
    assert_eq!(faults("// tidy: in bounds because\nlet x = TABLE[i];"), 1);
    assert_eq!(count(checks::no_panic_from_input, "src/call/a.rs", "fn a() { b.unwrap(); }"), 0);
}

#[test]
fn clocks_and_files_in_the_wrong_layer_are_found() {
    let grants = Grants::parse("may: src/archive/commit.rs std::time\n");
    let faults = |path: &str, text: &str| checks::std_rights(&at(path, text), &grants).len();
    assert_eq!(faults("src/net/a.rs", "use std::time::Instant;"), 1);
    assert_eq!(faults("src/net/a.rs", "use std::{fs::File, io};"), 1);
    assert_eq!(faults("src/net/a.rs", "use std::net::{IpAddr, Ipv4Addr};"), 0);
    assert_eq!(faults("src/work/a.rs", "use std::net::{IpAddr, UdpSocket};"), 1);
    assert_eq!(faults("src/capture/a.rs", "fn a() { std::thread::spawn(b); }"), 1);
    assert_eq!(faults("src/work/a.rs", "fn a() { std::thread::spawn(b); }"), 0);
    assert_eq!(faults("src/archive/commit.rs", "use std::time::Duration;"), 0);
    assert_eq!(faults("src/archive/other.rs", "use std::time::Duration;"), 0);
    assert_eq!(faults("src/archive/other.rs", "use std::time::{Duration, Instant};"), 1);
    assert_eq!(faults("src/net/a.rs", "use std::time::Duration;"), 1);
    assert_eq!(faults("src/net/a.rs", "#[cfg(test)]\nmod tests { use std::fs; }"), 0);
}

#[test]
fn noise_on_the_hot_path_is_found() {
    let faults = |path: &str, text: &str| count(checks::hot_folders_stay_quiet, path, text);
    assert_eq!(faults("src/net/a.rs", "fn a() { format!(\"\"); tracing::info!(\"\"); }"), 3);
    assert_eq!(faults("src/work/front.rs", "fn a() { println!(); }"), 1);
    assert_eq!(faults("src/work/report.rs", "fn a() { println!(); }"), 0);
    assert_eq!(faults("src/net/a.rs", "impl fmt::Display for A { fn b() { format!(\"\"); } }"), 0);
    assert_eq!(
        faults("src/capture/a.rs", "// tidy: cold because the file is opened once\nformat!(\"\");"),
        0
    );
}

#[test]
fn unsafe_in_the_wrong_place_or_without_a_reason_is_found() {
    let faults = |path: &str, text: &str| count(checks::unsafe_is_listed, path, text);
    assert_eq!(faults("src/net/a.rs", "// SAFETY: no\nunsafe { b() }"), 1);
    assert_eq!(faults("src/capture/ring.rs", "let a =\n    unsafe { b() };"), 1);
    assert_eq!(
        faults(
            "src/capture/ring.rs",
            "// SAFETY: the ring outlives it.\nlet a =\n    unsafe { b() };"
        ),
        0
    );
    assert_eq!(faults("src/lib.rs", "#![deny(unsafe_code)]\n// unsafe"), 0);
}

#[test]
fn labels_that_are_not_their_variant_are_found() {
    let label = |arms: &str| {
        format!(
            "impl A {{ pub const fn label(self) -> &'static str {{\nmatch self {{\n{arms}\n}}\n}} }}"
        )
    };
    let faults = |arms: &str| count(checks::labels_are_variants, "src/sip/a.rs", &label(arms));
    assert_eq!(faults("Self::LineTooLong => \"line_too_long\",\nSelf::No(_) => \"no\","), 0);
    assert_eq!(faults("Self::LineTooLong => \"too_long\","), 1);
    assert_eq!(faults("Self::A | Self::B => \"a\","), 1);
    let outcomes = "outcomes! {\n    /// Doc.\n    MalformedIp = \"malformed\",\n}";
    assert_eq!(count(checks::labels_are_variants, "src/base/outcome.rs", outcomes), 1);
}

#[test]
fn limits_become_a_page_and_need_a_doc() {
    let text = "/// Bytes of\n/// a thing | here.\npub const A_MAX: usize = 8 << 20;\n\npub const B: u8 = 1;\n";
    let page = checks::limits_page(text);
    assert!(page.contains("| `A_MAX` | `8 << 20` | Bytes of a thing \\| here. |\n"), "{page}");
    assert_eq!(checks::limits_are_documented(&at("src/base/limits.rs", text)).len(), 1);
}

#[test]
fn short_module_docs_are_found() {
    let whole = "//! Does a thing.\n//!\n//! Purpose: a.\n//! Invariants: b\n//! and c.\n//! Non-goals: d.\n//! Sources: e.\n";
    assert_eq!(count(checks::module_doc_has_four_parts, "src/net/a.rs", whole), 0);
    for part in ["Purpose:", "Invariants:", "Non-goals:", "Sources:"] {
        let without = whole.replace(part, "");
        assert_eq!(count(checks::module_doc_has_four_parts, "src/net/a.rs", &without), 1, "{part}");
    }
    assert_eq!(count(checks::module_doc_has_four_parts, "src/net/a.rs", "//! net layer.\n"), 1);
}

#[test]
fn bool_parameters_and_left_overs_are_found() {
    let faults = |text: &str| count(checks::no_bool_parameters, "src/net/a.rs", text);
    assert_eq!(faults("pub fn a(b: u8,\n c: bool) -> u8 {}"), 1);
    assert_eq!(faults("pub fn is_a(&self) -> bool {}\nfn b(c: bool) {}"), 0);
    let left = |text: &str| count(checks::nothing_left_over, "src/net/a.rs", text);
    assert_eq!(left("fn a() { dbg!(b); todo!(); unimplemented!() } // FIXME later, XXX"), 5);
    assert_eq!(left("fn a() {} // nothing to do here, dbg! is fine in a comment"), 0);
}

#[test]
fn abbreviations_in_names_are_found() {
    let faults = |text: &str| count(checks::names_are_words, "src/net/a.rs", text);
    assert_eq!(faults("fn parse_hdr() { let pkt = 1; let mut ts = 2; }"), 3);
    assert_eq!(faults("#[cfg(test)]\nmod t {}\nfn parts() { let packets = 1; }"), 0);
}

#[test]
fn orphans_are_found() {
    let file = |path: &str, code: &str| (path.to_string(), code.to_string());
    let mut tree = vec![
        file("src/lib.rs", "pub mod net;"),
        file(
            "src/net/mod.rs",
            "mod ip;\nmod tests { }\n#[cfg(test)]\n#[path = \"ip_tests.rs\"]\nmod ip_cases;",
        ),
        file("src/net/ip_tests.rs", ""),
        file("src/net/ip.rs", "mod v6;"),
        file("src/net/ip/v6.rs", ""),
        file("src/main.rs", ""),
    ];
    assert_eq!(checks::orphans(&tree), Vec::<String>::new());
    tree.push(file("src/net/tests.rs", ""));
    assert_eq!(checks::orphans(&tree).len(), 1);
}

#[test]
fn places_on_one_machine_are_found() {
    assert_eq!(checks::no_machine_paths("a", "see /work/shared and `/root/x`").len(), 2);
    assert_eq!(checks::no_machine_paths("a", "src/work/front.rs, $HOME/work/x").len(), 0);
}
