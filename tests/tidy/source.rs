//! A Rust source file as the checks see it: masked text, tests cut out, paths listed.
//!
//! Purpose: let a check look for words without meeting them in comments, strings or tests.
//! Invariants: masking keeps every byte's offset, so lines agree between all views.
//! Non-goals: parsing Rust; what rustfmt wrote is assumed.
//! Sources: The Rust Reference, "Tokens".

/// A source file. `path` is relative to the package, with `/`.
pub struct Source {
    pub path: String,
    /// As it is in the file.
    pub text: String,
    /// Comments and the contents of strings blanked.
    pub code: String,
    /// `code` with `#[cfg(test)]` items blanked too; empty for a file of tests (`…_tests.rs`).
    pub shipped: String,
}

impl Source {
    pub fn new(path: &str, text: &str) -> Self {
        let code = mask(text);
        let is_test = path.ends_with("_tests.rs") || path.ends_with("/tests.rs");
        let shipped = if is_test && path.starts_with("src/") {
            String::new()
        } else {
            blank_items(&code, |line| {
                line.starts_with("#[cfg(test)]") || line.starts_with("#[cfg(all(test")
            })
        };
        Self { path: path.into(), text: text.into(), code, shipped }
    }

    /// First folder under `src`, or the file's stem at its top (`lib`, `main`).
    pub fn folder(&self) -> &str {
        let inside = self.path.strip_prefix("src/").unwrap_or(&self.path);
        inside.split('/').next().unwrap_or("").trim_end_matches(".rs")
    }

    /// The raw text of a line, counted from 1.
    pub fn line(&self, number: usize) -> &str {
        number.checked_sub(1).and_then(|skip| self.text.lines().nth(skip)).unwrap_or("")
    }

    /// Whether this line, or a comment right above it, gives `// tidy: {allow} because …`.
    pub fn allows(&self, number: usize, allow: &str) -> bool {
        let marker = format!("// tidy: {allow} because ");
        let gives = |line: &str| line.split_once(&marker).is_some_and(|(_, why)| why.len() > 10);
        if gives(self.line(number)) {
            return true;
        }
        let above = (1..number).rev().map(|at| self.line(at).trim());
        above.take_while(|line| line.starts_with("//")).any(gives)
    }
}

/// Line of a byte offset, counted from 1.
pub fn line_of(text: &str, offset: usize) -> usize {
    text[..offset].matches('\n').count() + 1
}

pub fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

/// Offsets at which `word` stands as a whole word.
pub fn words(code: &str, word: &str) -> Vec<usize> {
    let bytes = code.as_bytes();
    let starts_word = word.as_bytes().first().copied().is_some_and(is_word);
    let ends_word = word.as_bytes().last().copied().is_some_and(is_word);
    code.match_indices(word)
        .map(|(at, _)| at)
        .filter(|&at| !(starts_word && at > 0 && is_word(bytes[at - 1])))
        .filter(|&at| !(ends_word && bytes.get(at + word.len()).copied().is_some_and(is_word)))
        .collect()
}

/// Comments and the contents of string and character literals become spaces; newlines stay.
pub fn mask(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = bytes.to_vec();
    let mut at = 0;
    while at < bytes.len() {
        let end = token_end(bytes, at);
        if let Some((from, to)) = end.1 {
            for byte in &mut out[from..to] {
                if *byte != b'\n' {
                    *byte = b' ';
                }
            }
        }
        at = end.0.max(at + 1);
    }
    String::from_utf8(out).expect("blanked bytes are ASCII and whole literals go at once")
}

/// Where the token at `at` ends, and what of it is to be blanked.
fn token_end(bytes: &[u8], at: usize) -> (usize, Option<(usize, usize)>) {
    let rest = &bytes[at..];
    if rest.starts_with(b"//") {
        let end = rest.iter().position(|&byte| byte == b'\n').map_or(bytes.len(), |len| at + len);
        return (end, Some((at, end)));
    }
    if rest.starts_with(b"/*") {
        let end = block_comment_end(bytes, at);
        return (end, Some((at, end)));
    }
    let previous_is_word = at > 0 && is_word(bytes[at - 1]);
    if let Some((open, hashes)) = raw_string(rest).filter(|_| !previous_is_word) {
        let close = [b"\"".as_slice(), &b"#".repeat(hashes)].concat();
        let body = at + open;
        let end = (body..bytes.len()).find(|&to| bytes[to..].starts_with(&close));
        let end = end.unwrap_or(bytes.len());
        return (end + close.len(), Some((body, end)));
    }
    if rest[0] == b'"' {
        let end = quoted_end(bytes, at + 1, b'"');
        return (end + 1, Some((at + 1, end)));
    }
    if rest[0] == b'\'' {
        // 'x', '\n', '\u{1F600}', '“' are characters; 'a and 'static are lifetimes.
        let is_char = rest.get(1) == Some(&b'\\')
            || rest.get(2) == Some(&b'\'')
            || rest.get(1).is_some_and(|byte| !byte.is_ascii());
        if is_char {
            let end = quoted_end(bytes, at + 1, b'\'');
            return (end + 1, Some((at + 1, end)));
        }
    }
    (at + 1, None)
}

fn block_comment_end(bytes: &[u8], begin: usize) -> usize {
    let (mut at, mut depth) = (begin, 0_usize);
    while at < bytes.len() {
        if bytes[at..].starts_with(b"/*") {
            depth += 1;
            at += 2;
        } else if bytes[at..].starts_with(b"*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return at;
            }
        } else {
            at += 1;
        }
    }
    bytes.len()
}

/// Length up to and with the opening quote, and the number of `#`, of a raw string's beginning.
fn raw_string(rest: &[u8]) -> Option<(usize, usize)> {
    let prefix = [b"br".as_slice(), b"cr", b"r"].into_iter().find(|p| rest.starts_with(p))?.len();
    let hashes = rest[prefix..].iter().take_while(|&&byte| byte == b'#').count();
    (rest.get(prefix + hashes) == Some(&b'"')).then_some((prefix + hashes + 1, hashes))
}

fn quoted_end(bytes: &[u8], begin: usize, quote: u8) -> usize {
    let mut at = begin;
    while at < bytes.len() && bytes[at] != quote {
        at += if bytes[at] == b'\\' { 2 } else { 1 };
    }
    at.min(bytes.len())
}

/// End (past the brace) of the block whose `{` is the first at or after `from`, unless `;` comes first.
pub fn item_end(code: &str, from: usize) -> Option<(usize, usize)> {
    let bytes = code.as_bytes();
    let (mut nested, mut braces, mut open) = (0_i32, 0_i32, None);
    for (at, &byte) in bytes.iter().enumerate().skip(from) {
        match byte {
            b'(' | b'[' if open.is_none() => nested += 1,
            b')' | b']' if open.is_none() => nested -= 1,
            b';' if open.is_none() && nested == 0 => return None,
            b'{' => {
                open.get_or_insert(at);
                braces += 1;
            }
            b'}' => {
                braces -= 1;
                if braces == 0 {
                    return open.map(|open| (open, at + 1));
                }
                if braces < 0 {
                    return None;
                }
            }
            _ => {}
        }
    }
    None
}

/// Blanks every item whose first line (trimmed) satisfies `begins`.
pub fn blank_items(code: &str, begins: impl Fn(&str) -> bool) -> String {
    let mut out = code.as_bytes().to_vec();
    let mut at = 0;
    for line in code.split_inclusive('\n') {
        if begins(line.trim_start()) {
            let from = at + line.len() - line.trim_start().len();
            let head = from + line.trim().find(']').filter(|_| line.contains("#[")).unwrap_or(0);
            let end = item_end(code, head + 1).map_or_else(
                || code[head..].find(';').map_or(code.len(), |len| head + len),
                |(_, end)| end,
            );
            for byte in &mut out[from..end] {
                if *byte != b'\n' {
                    *byte = b' ';
                }
            }
        }
        at += line.len();
    }
    String::from_utf8(out).expect("whole characters are blanked")
}

/// Every path that begins with `root` (`crate` or `std`), groups of `use` taken apart: offset and
/// path, such as `(17, "std::fs::File")`.
pub fn paths(code: &str, root: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    for at in words(code, &format!("{root}::")) {
        let preceded = code[..at].trim_end().ends_with("::");
        if !preceded {
            expand(code, at, at, String::new(), &mut found);
        }
    }
    found
}

/// Adds the paths of the tree at `at` (`a::b`, `a::{b, c::d}`), each with `prefix` before it.
/// Returns where the tree ends.
fn expand(
    code: &str,
    at: usize,
    origin: usize,
    prefix: String,
    found: &mut Vec<(usize, String)>,
) -> usize {
    let bytes = code.as_bytes();
    let mut end = at;
    while end < bytes.len() && (is_word(bytes[end]) || bytes[end] == b'*' && end == at) {
        end += 1;
    }
    let path = prefix + &code[at..end];
    if !code[end..].starts_with("::") {
        found.push((origin, path));
        return end;
    }
    let mut next = end + 2;
    if bytes.get(next) != Some(&b'{') {
        if bytes.get(next).is_some_and(|&byte| is_word(byte) || byte == b'*') {
            return expand(code, next, origin, path + "::", found);
        }
        found.push((origin, path));
        return next;
    }
    next += 1;
    while next < bytes.len() && bytes[next] != b'}' {
        if is_word(bytes[next]) || bytes[next] == b'*' {
            let from = next;
            next = expand(code, next, from, format!("{path}::"), found);
            // `as name` after an element is no path.
            let stop = code[next..].find([',', '}', '{']).map_or(code.len(), |len| next + len);
            next = stop;
        } else {
            next += 1;
        }
    }
    next + 1
}
