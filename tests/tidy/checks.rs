//! The checks: each takes a source and returns its faults, one line each, with what to do instead.
//!
//! Purpose: style.md's hard rules, executable.
//! Invariants: a check reads nothing but its arguments, so that it can be shown to fail.
//! Non-goals: what clippy, rustfmt and the compiler already say.
//! Sources: style.md §2 to §6, design.md "Layers".

use crate::source::{Source, blank_items, is_word, item_end, line_of, mask, paths, words};

const LAYERS: [(&str, u8); 18] = [
    ("base", 0),
    ("net", 1),
    ("sip", 1),
    ("rtp", 1),
    ("codec", 1),
    ("tls", 1),
    ("call", 2),
    ("rules", 2),
    ("media", 2),
    ("archive", 2),
    ("capture", 3),
    ("work", 3),
    ("ops", 3),
    ("console", 3),
    ("cli", 4),
    ("app", 4),
    ("main", 5),
    ("lib", 5),
];
const INPUT_FOLDERS: [&str; 6] = ["net", "sip", "rtp", "codec", "tls", "capture"];
/// `codec/avcodec.rs`: libavcodec is a C library, and no crate wraps it safely without the whole FFmpeg.
const UNSAFE_FILES: [&str; 5] = [
    "src/capture/ring.rs",
    "src/capture/mmap.rs",
    "src/archive/mmap.rs",
    "src/codec/avcodec.rs",
    "src/ops/clock.rs",
];
/// What of `std` only some folders may touch; ARCHITECTURE.md adds to it with `may: PATH std::…`.
const STD_RIGHTS: [(&str, &[&str]); 6] = [
    ("std::time::", &["capture", "work", "ops", "console", "cli", "app", "main"]),
    ("std::fs", &["archive", "capture", "ops", "console", "cli", "app", "main"]),
    ("std::net::TcpListener", &["ops", "console", "cli", "app"]),
    ("std::net::TcpStream", &["ops", "console", "cli", "app"]),
    ("std::net::UdpSocket", &["ops", "console", "cli", "app"]),
    ("std::thread", &["work", "ops", "console", "cli", "app", "main"]),
];

/// What ARCHITECTURE.md grants: `arrow: work -> ops` and `may: src/archive/clock.rs std::time`.
#[derive(Default)]
pub struct Grants {
    pub arrows: Vec<(String, String)>,
    pub rights: Vec<(String, String)>,
}

impl Grants {
    pub fn parse(text: &str) -> Self {
        let mut grants = Self::default();
        for line in text.lines() {
            let line = line.trim_start_matches(['-', '*', ' ']).replace('`', "");
            if let Some((from, to)) = line.strip_prefix("arrow:").and_then(|l| l.split_once("->")) {
                let to = to.split_whitespace().next().unwrap_or("");
                grants.arrows.push((from.trim().into(), to.into()));
            }
            if let Some(rest) = line.strip_prefix("may:") {
                let mut parts = rest.split_whitespace().map(String::from);
                grants.rights.extend(parts.next().zip(parts.next()));
            }
        }
        grants
    }
}

fn fault(source: &Source, line: usize, what: &str) -> String {
    format!("{}:{line}: {what}", source.path)
}

pub fn file_length(source: &Source) -> Vec<String> {
    let lines = source.text.lines().count();
    if lines <= 600 {
        return Vec::new();
    }
    vec![fault(
        source,
        lines,
        &format!("{lines} lines, at most 600: move a type into a file of its own"),
    )]
}

pub fn function_length(source: &Source) -> Vec<String> {
    let mut faults = Vec::new();
    for at in words(&source.code, "fn") {
        let named =
            source.code[at + 2..].trim_start().starts_with(|c: char| c.is_alphabetic() || c == '_');
        let Some((_, end)) = item_end(&source.code, at).filter(|_| named) else { continue };
        let (first, last) = (line_of(&source.code, at), line_of(&source.code, end - 1));
        let lines = last - first + 1;
        if lines > 70 {
            faults.push(fault(
                source,
                first,
                &format!("a function of {lines} lines, at most 70: keep the match, move straight-line work out"),
            ));
        }
    }
    faults
}

fn layer(folder: &str) -> Option<u8> {
    LAYERS.iter().find(|(name, _)| *name == folder).map(|(_, layer)| *layer)
}

pub fn import_layers(source: &Source, grants: &Grants) -> Vec<String> {
    let folder = source.folder();
    let Some(own) = layer(folder) else {
        return vec![fault(
            source,
            1,
            "a folder that is in no layer: add it to LAYERS and ARCHITECTURE.md",
        )];
    };
    let mut faults = Vec::new();
    for (at, path) in paths(&source.code, "crate") {
        let target = path.split("::").nth(1).unwrap_or("");
        let Some(theirs) = layer(target).filter(|_| target != folder) else { continue };
        let drawn = grants.arrows.iter().any(|(from, to)| from == folder && to == target);
        // `cli` and `app` are one layer that wires everything.
        let fine = theirs < own || own >= 4 || theirs == own && drawn;
        if !fine {
            let line = line_of(&source.code, at);
            let what = if theirs > own {
                format!(
                    "{folder} (layer {own}) imports {target} (layer {theirs}): pass a plain value down instead"
                )
            } else {
                format!(
                    "{folder} imports its sibling {target}: move what both need to a lower layer, or draw `arrow: {folder} -> {target}` in ARCHITECTURE.md with its reason"
                )
            };
            faults.push(fault(source, line, &what));
        }
    }
    let depth =
        source.path.trim_start_matches("src/").trim_end_matches("mod.rs").matches('/').count()
            + usize::from(!source.path.ends_with("mod.rs"));
    for at in words(&source.shipped, &"super::".repeat(depth.max(1))) {
        if depth > 1 && !source.shipped[..at].ends_with("super::") {
            let line = line_of(&source.code, at);
            faults.push(fault(
                source,
                line,
                "`super` up to the crate's root hides a layer: write `crate::…`",
            ));
        }
    }
    faults
}

pub fn no_panic_from_input(source: &Source) -> Vec<String> {
    // Fuzz bodies assert what must hold: there a panic is the finding.
    if !INPUT_FOLDERS.contains(&source.folder()) || source.path.ends_with("/fuzz.rs") {
        return Vec::new();
    }
    let code = &source.shipped;
    let mut faults = Vec::new();
    for (call, instead) in [
        (".unwrap()", "use `?`, `let … else`, or a reader that cannot fail"),
        (".expect(", "use `?`, `let … else`, or a reader that cannot fail"),
        (".unwrap_err()", "match on it"),
        (".expect_err(", "match on it"),
    ] {
        for (at, _) in code.match_indices(call) {
            faults.push(fault(
                source,
                line_of(code, at),
                &format!("`{call}` in an input folder: {instead}"),
            ));
        }
    }
    for at in indexings(code) {
        let line = line_of(code, at);
        if !source.allows(line, "in bounds") {
            faults.push(fault(source, line, "indexing in an input folder: use `get`, `split_first_chunk`, `base::Reader`, or say `// tidy: in bounds because …`"));
        }
    }
    for at in words(code, "as") {
        let kind: String = code[at + 2..]
            .trim_start()
            .chars()
            .take_while(|c| c.is_alphanumeric() || *c == '_')
            .collect();
        let integer = matches!(
            kind.as_str(),
            "u8" | "u16"
                | "u32"
                | "u64"
                | "u128"
                | "usize"
                | "i8"
                | "i16"
                | "i32"
                | "i64"
                | "i128"
                | "isize"
                | "_"
                | "c_int"
                | "c_uint"
        );
        let in_use = line_text(code, at).trim_start().starts_with("use ")
            || line_text(code, at).trim_start().starts_with("pub use ");
        let line = line_of(code, at);
        if integer && !in_use && !source.allows(line, "lossless") {
            faults.push(fault(source, line, &format!("`as {kind}` in an input folder: use `{kind}::from`, `try_from`, or say `// tidy: lossless because …`")));
        }
    }
    faults
}

fn line_text(code: &str, at: usize) -> &str {
    let begin = code[..at].rfind('\n').map_or(0, |newline| newline + 1);
    code[begin..].lines().next().unwrap_or("")
}

/// Offsets of `[` that index something: right behind a name, a call or another index (rustfmt
/// leaves no blank there, and puts one before array types and patterns).
fn indexings(code: &str) -> Vec<usize> {
    let bytes = code.as_bytes();
    let behind = |at: usize| bytes[at - 1];
    code.match_indices('[')
        .map(|(at, _)| at)
        .filter(|&at| at > 0 && (is_word(behind(at)) || matches!(behind(at), b')' | b']' | b'?')))
        .filter(|&at| {
            // `'a[` cannot be; `$name[` and `name![` are macros; `[..]` on a full range is harmless.
            !code[at..].starts_with("[..]")
        })
        .collect()
}

pub fn std_rights(source: &Source, grants: &Grants) -> Vec<String> {
    let mut faults = Vec::new();
    for (at, path) in paths(&source.shipped, "std") {
        // A length of time is a value; what reads a clock is not.
        if path == "std::time::Duration" && layer(source.folder()) >= Some(2) {
            continue;
        }
        for (right, folders) in STD_RIGHTS {
            let touches =
                format!("{path}::").starts_with(&format!("{}::", right.trim_end_matches(':')));
            let granted = grants.rights.iter().any(|(file, what)| {
                source.path.starts_with(file.as_str())
                    && right.starts_with(what.trim_end_matches(':'))
            });
            if touches && !folders.contains(&source.folder()) && !granted {
                let line = line_of(&source.shipped, at);
                faults.push(fault(source, line, &format!("`{path}` in `{}`: take a time, bytes or a trait as an argument, or grant it in ARCHITECTURE.md (`may: {} {right}`) with its reason", source.folder(), source.path)));
            }
        }
    }
    faults
}

pub fn hot_folders_stay_quiet(source: &Source) -> Vec<String> {
    let hot = matches!(source.folder(), "capture" | "net" | "rtp")
        || source.path.starts_with("src/work/front")
        || source.path.starts_with("src/work/queue");
    if !hot {
        return Vec::new();
    }
    let code = blank_items(&source.shipped, |line| {
        line.starts_with("impl") && line.contains("Display for")
    });
    let mut faults = Vec::new();
    for word in [
        "format!",
        "println!",
        "eprintln!",
        "print!",
        "eprint!",
        "dbg!",
        "tracing::",
        "log::",
        "info!",
        "warn!",
        "error!",
        "debug!",
        "trace!",
    ] {
        for at in words(&code, word) {
            let line = line_of(&code, at);
            if !source.allows(line, "cold") {
                faults.push(fault(source, line, &format!("`{word}` on the hot path: count it (an outcome or a counter), or say `// tidy: cold because …`")));
            }
        }
    }
    faults
}

pub fn unsafe_is_listed(source: &Source) -> Vec<String> {
    let mut faults = Vec::new();
    for at in words(&source.code, "unsafe") {
        let line = line_of(&source.code, at);
        if !UNSAFE_FILES.contains(&source.path.as_str()) {
            faults.push(fault(
                source,
                line,
                &format!(
                    "`unsafe` outside of {UNSAFE_FILES:?}: use a safe crate, or move it there"
                ),
            ));
            continue;
        }
        let above = (1..=line).rev().map(|number| source.line(number)).take(12);
        let mut reasons = above.take_while(|text| !text.trim().is_empty());
        if !reasons.any(|text| text.contains("// SAFETY:") || text.contains("# Safety")) {
            faults.push(fault(
                source,
                line,
                "`unsafe` without `// SAFETY:`: name the invariant and who keeps it",
            ));
        }
    }
    faults
}

fn snake_case(variant: &str) -> String {
    let mut out = String::new();
    for letter in variant.chars() {
        if letter.is_uppercase() && !out.is_empty() {
            out.push('_');
        }
        out.extend(letter.to_lowercase());
    }
    out
}

pub fn labels_are_variants(source: &Source) -> Vec<String> {
    let mut faults = Vec::new();
    let mut regions = Vec::new();
    for at in words(&source.code, "fn label") {
        regions.extend(item_end(&source.code, at));
    }
    for (at, _) in source.code.match_indices("outcomes! {") {
        regions.extend(item_end(&source.code, at));
    }
    for (begin, end) in regions {
        for (offset, text) in lines_with_offsets(&source.text[begin..end]) {
            let Some((left, right)) = text.split_once("=>").or_else(|| text.split_once('=')) else {
                continue;
            };
            let name = left.trim().trim_start_matches("Self::");
            let variant: String = name.chars().take_while(|c| c.is_alphanumeric()).collect();
            let Some(label) = right.trim().strip_prefix('"').and_then(|r| r.split('"').next())
            else {
                continue;
            };
            let starts_big = variant.starts_with(char::is_uppercase);
            if starts_big && (snake_case(&variant) != label || left.contains('|')) {
                let line = line_of(&source.text, begin + offset);
                faults.push(fault(
                    source,
                    line,
                    &format!(
                        "label \"{label}\" of `{variant}`: it must be \"{}\", one a variant",
                        snake_case(&variant)
                    ),
                ));
            }
        }
    }
    faults
}

fn lines_with_offsets(text: &str) -> Vec<(usize, &str)> {
    let mut at = 0;
    text.split_inclusive('\n')
        .map(|line| {
            at += line.len();
            (at - line.len(), line)
        })
        .collect()
}

/// The table of docs/LIMITS.md, made from limits.rs.
pub fn limits_page(limits: &str) -> String {
    let mut page = String::from(
        "# Limits\n\nMade from `src/base/limits.rs` by `CALLSPAN_BLESS=1 cargo test --test tidy`; edit that file.\n\n\
         | limit | value | what it bounds, and what happens there |\n|---|---|---|\n",
    );
    let mut doc: Vec<&str> = Vec::new();
    for line in limits.lines() {
        if let Some(text) = line.strip_prefix("///") {
            doc.push(text.trim());
        } else if let Some(rest) = line.strip_prefix("pub const ") {
            let (name, value) = rest.split_once('=').unwrap_or((rest, ""));
            let name = name.split(':').next().unwrap_or(name).trim();
            let text = doc.join(" ").replace('|', "\\|");
            let value = value.trim().trim_end_matches(';');
            page += &["| `", name, "` | `", value, "` | ", &text, " |\n"].concat();
            doc.clear();
        } else if !line.starts_with("#[") {
            doc.clear();
        }
    }
    page
}

pub fn limits_are_documented(limits: &Source) -> Vec<String> {
    let page = limits_page(&limits.text);
    page.lines()
        .filter(|row| row.starts_with("| `") && row.ends_with("|  |"))
        .map(|row| format!("{}: {row}: a limit without a doc comment: say its unit, its reason and what happens when it is met", limits.path))
        .collect()
}

pub fn module_doc_has_four_parts(source: &Source) -> Vec<String> {
    let doc: Vec<&str> =
        source.text.lines().map_while(|line| line.strip_prefix("//!")).map(str::trim).collect();
    let parts = ["Purpose:", "Invariants:", "Non-goals:", "Sources:"];
    let places: Vec<usize> = parts
        .iter()
        .filter_map(|part| doc.iter().position(|line| line.starts_with(part)))
        .collect();
    let sentence = doc
        .first()
        .is_some_and(|line| line.ends_with(['.', ':']) || doc.len() > 1 && !line.is_empty());
    if sentence && places.len() == parts.len() && places.is_sorted() {
        return Vec::new();
    }
    vec![fault(
        source,
        1,
        "the module doc lacks a part: one sentence, then `Purpose:`, `Invariants:`, `Non-goals:`, `Sources:` in this order",
    )]
}

pub fn no_bool_parameters(source: &Source) -> Vec<String> {
    let mut faults = Vec::new();
    let code = &source.shipped;
    for kind in ["pub fn", "pub const fn", "pub async fn", "pub unsafe fn"] {
        for at in words(code, kind) {
            let end = code[at..].find(['{', ';']).map_or(code.len(), |len| at + len);
            let signature = code[at..end].split("->").next().unwrap_or("");
            let takes = words(signature, "bool")
                .iter()
                .any(|&word| signature[..word].trim_end().ends_with(':'));
            if takes {
                faults.push(fault(
                    source,
                    line_of(code, at),
                    "a `bool` parameter in a public function: make an enum of two",
                ));
            }
        }
    }
    faults
}

pub fn nothing_left_over(source: &Source) -> Vec<String> {
    let mut faults = Vec::new();
    for (word, in_comments) in [
        ("dbg!", false),
        ("todo!", false),
        ("unimplemented!", false),
        ("FIXME", true),
        ("XXX", true),
    ] {
        for at in words(if in_comments { &source.text } else { &source.code }, word) {
            faults.push(fault(
                source,
                line_of(&source.text, at),
                &format!("`{word}` left over: finish it, or open an issue and name it"),
            ));
        }
    }
    faults
}

pub fn no_machine_paths(path: &str, text: &str) -> Vec<String> {
    let mut faults = Vec::new();
    for needle in ["/work/", "/tmp/bash_jobs", "/root/"] {
        for (at, _) in text.match_indices(needle) {
            let inside_a_path =
                text[..at].ends_with(|c: char| c.is_alphanumeric() || "_-.)}*$]".contains(c));
            if !inside_a_path {
                faults.push(format!(
                    "{path}:{}: `{needle}` is a place on one machine: write a relative path",
                    line_of(text, at)
                ));
            }
        }
    }
    faults
}

pub fn names_are_words(source: &Source) -> Vec<String> {
    let mut faults = Vec::new();
    for keyword in ["let", "let mut", "fn", "mod", "struct", "enum", "const", "static", "type"] {
        for at in words(&source.shipped, &format!("{keyword} ")) {
            let rest = &source.shipped[at + keyword.len() + 1..];
            let name: String =
                rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
            let short = name.split('_').find(|part| {
                ["pkt", "hdr", "cfg", "sess", "ts", "buf2"].contains(&part.to_lowercase().as_str())
            });
            if let Some(short) = short {
                faults.push(fault(
                    source,
                    line_of(&source.shipped, at),
                    &format!("`{short}` in `{name}`: write the word out"),
                ));
            }
        }
    }
    faults
}

/// Files under `src` that no `mod` line reaches. `files`: path and text of each.
pub fn orphans(files: &[(String, String)]) -> Vec<String> {
    let mut reached: Vec<String> = vec!["src/lib.rs".into(), "src/main.rs".into()];
    let mut next = 0;
    while next < reached.len() {
        let path = reached[next].clone();
        next += 1;
        let Some((_, text)) = files.iter().find(|(file, _)| *file == path) else { continue };
        let beside = path.rsplit_once('/').map_or("", |(folder, _)| folder);
        let given = text.lines().filter_map(|line| line.trim().strip_prefix("#[path = \""));
        reached.extend(
            given.filter_map(|rest| rest.split('"').next()).map(|file| format!("{beside}/{file}")),
        );
        let code = &mask(text);
        let stem = path.trim_end_matches(".rs").trim_end_matches("/mod");
        let folder =
            if matches!(path.as_str(), "src/lib.rs" | "src/main.rs") { "src" } else { stem };
        for at in words(code, "mod") {
            let name: String = code[at + 3..]
                .trim_start()
                .chars()
                .take_while(|c| c.is_alphanumeric() || *c == '_')
                .collect();
            if code[at + 3..].trim_start()[name.len()..].trim_start().starts_with(';') {
                reached.push(format!("{folder}/{name}.rs"));
                reached.push(format!("{folder}/{name}/mod.rs"));
            }
        }
    }
    files
        .iter()
        .filter(|(path, _)| !reached.contains(path))
        .map(|(path, _)| format!("{path}: no `mod` line reaches it: add one, or delete the file"))
        .collect()
}
