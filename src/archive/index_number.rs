//! How numbers are compared: one number, many spellings.
//!
//! Purpose: the keys under which a recorded number stands in the index, and the ranges of keys that
//! a typed one asks for: `+48…`, `0048…`, `0221…` and `221…` find each other.
//! Invariants: a number matches if and only if one of its keys lies in one of the ranges, so that
//! the index and a scan cannot disagree; a change of the keys is a new version of the index.
//! Non-goals: whether a number exists; national plans beyond a trunk `0`.
//! Sources: E.164 with its list of country codes, ITU-T E.123 (how numbers are written).

/// Between a country code and what follows it; it cannot stand in a number.
const BORDER: char = '\u{1}';
/// Behind every text that begins alike.
const BEYOND: char = '\u{10ffff}';
/// `00` before fewer digits is somebody's short number, not the international prefix.
const INTERNATIONAL_DIGITS_MIN: usize = 7;
/// E.164: a country code has at most so many digits.
const COUNTRY_DIGITS_MAX: usize = 3;

/// A number as far as its spelling tells.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Spelling {
    /// With its country code, in digits alone.
    International { country: String, national: String },
    /// Digits without a country code that could be told, or a name (`alice`, `pbx-12`).
    AsSeen(String),
}

/// Keys from `low` on and before `beyond`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct KeyRange {
    /// The first key.
    pub low: String,
    /// Greater than the last key.
    pub beyond: String,
}

impl KeyRange {
    fn one(key: String) -> Self {
        Self { beyond: format!("{key}\0"), low: key }
    }

    fn beginning_with(key: String) -> Self {
        Self { beyond: format!("{key}{BEYOND}"), low: key }
    }

    fn holds(&self, key: &str) -> bool {
        *self.low <= *key && *key < *self.beyond
    }
}

/// What was typed to find numbers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct NumberPattern {
    ranges: Vec<KeyRange>,
}

impl NumberPattern {
    /// Reads a number, the end of one (also with a leading `*`), or with a trailing `*` the
    /// beginning of one. A pattern with nothing to look for matches nothing.
    pub fn new(typed: &str) -> Self {
        let typed = typed.trim();
        let ranges = match typed.strip_suffix('*') {
            Some(beginning) => ranges_of_beginning(beginning),
            None => ranges_of_end(typed.strip_prefix('*').unwrap_or(typed)),
        };
        Self { ranges }
    }

    /// The keys that match, as ranges that may overlap.
    pub fn ranges(&self) -> &[KeyRange] {
        &self.ranges
    }

    /// Whether the number, as recorded, is one of those.
    pub fn matches(&self, number: &str) -> bool {
        let keys = number_keys(number);
        keys.iter().any(|key| self.ranges.iter().any(|range| range.holds(key)))
    }
}

/// The keys of a recorded number: `r` and its characters from the last to the first, `f` and from
/// the first to the last, `n` and the national part.
pub(super) fn number_keys(number: &str) -> Vec<String> {
    match spelling(number) {
        Spelling::AsSeen(text) if text.is_empty() => Vec::new(),
        Spelling::AsSeen(text) => vec![format!("f{text}"), format!("r{}", reversed(&text))],
        Spelling::International { country, national } => vec![
            format!("f+{country}{national}"),
            format!("n{national}"),
            international_reversed(&country, &national),
        ],
    }
}

fn international_reversed(country: &str, national: &str) -> String {
    format!("r{}{BORDER}{}", reversed(national), reversed(country))
}

fn reversed(text: &str) -> String {
    text.chars().rev().collect()
}

fn ranges_of_end(typed: &str) -> Vec<KeyRange> {
    let digits = match spelling(typed) {
        Spelling::International { country, national } => {
            let spellings =
                [national.clone(), format!("0{national}"), format!("{country}{national}")];
            let mut ranges = vec![KeyRange::one(international_reversed(&country, &national))];
            let as_seen =
                spellings.iter().map(|text| KeyRange::one(format!("r{}", reversed(text))));
            ranges.extend(as_seen);
            return ranges;
        }
        Spelling::AsSeen(text) if text.is_empty() => return Vec::new(),
        Spelling::AsSeen(text) => text,
    };
    let mut ranges = vec![KeyRange::beginning_with(format!("r{}", reversed(&digits)))];
    if !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return ranges;
    }
    // Its first digits may be the end of a country code.
    for country_len in 1..=COUNTRY_DIGITS_MAX.min(digits.len().saturating_sub(1)) {
        let (country, national) = digits.split_at(country_len);
        ranges.push(KeyRange::beginning_with(international_reversed(country, national)));
    }
    if let Some(national) = without_trunk(&digits) {
        ranges.push(KeyRange::one(format!("r{}", reversed(national))));
        ranges.push(KeyRange::beginning_with(format!("r{}{BORDER}", reversed(national))));
    }
    ranges
}

fn ranges_of_beginning(typed: &str) -> Vec<KeyRange> {
    let begins = |key: String| KeyRange::beginning_with(key);
    let text = readable(typed);
    let Some(digits) = digits_of(&text) else {
        return vec![begins(format!("f{text}"))];
    };
    // A beginning is short: here `00` is always the international prefix, and also itself.
    let international =
        if text.starts_with('+') { Some(&*digits) } else { digits.strip_prefix("00") };
    let mut ranges = Vec::new();
    // A plus begins a country code: `+4*` asks for no national number that begins with 4.
    if !digits.is_empty() && !text.starts_with('+') {
        ranges.push(begins(format!("f{digits}")));
    }
    if let Some(international) = international {
        if text.starts_with('+') || !digits.is_empty() {
            ranges.push(begins(format!("f+{international}")));
        }
        if let Some((_, national)) = split_country(international) {
            ranges.push(begins(format!("f{international}")));
            ranges.push(begins(format!("f{national}")));
            ranges.push(begins(format!("f0{national}")));
        }
    } else if let Some(national) = without_trunk(&digits) {
        ranges.push(begins(format!("f{national}")));
        ranges.push(begins(format!("n{national}")));
    } else if !digits.is_empty() && !digits.starts_with('0') {
        ranges.push(begins(format!("f0{digits}")));
        ranges.push(begins(format!("f+{digits}")));
        ranges.push(begins(format!("n{digits}")));
    }
    ranges
}

fn spelling(number: &str) -> Spelling {
    let text = readable(number);
    let Some(digits) = digits_of(&text) else { return Spelling::AsSeen(text) };
    let long = |rest: &&str| rest.len() >= INTERNATIONAL_DIGITS_MIN;
    let international =
        if text.starts_with('+') { Some(&*digits) } else { digits.strip_prefix("00").filter(long) };
    match international.and_then(split_country) {
        Some((country, national)) => {
            Spelling::International { country: country.to_owned(), national: national.to_owned() }
        }
        None => Spelling::AsSeen(digits),
    }
}

/// Without control characters, which no number has and our keys need.
fn readable(number: &str) -> String {
    number.trim().chars().filter(|letter| !letter.is_control() && *letter != BEYOND).collect()
}

/// Digits, `*` and `#` alone, without what people put between them (E.123); a name has none.
fn digits_of(text: &str) -> Option<String> {
    let between = |letter: char| letter.is_whitespace() || "+-./()".contains(letter);
    let dialled = |letter: char| letter.is_ascii_digit() || "*#".contains(letter);
    let is_number = text.chars().all(|letter| between(letter) || dialled(letter));
    is_number.then(|| text.chars().filter(|letter| dialled(*letter)).collect())
}

/// A national number without its trunk prefix.
fn without_trunk(digits: &str) -> Option<&str> {
    digits.strip_prefix('0').filter(|rest| !rest.is_empty() && !rest.starts_with('0'))
}

/// Country code and what follows it, of digits that begin with a country code.
fn split_country(digits: &str) -> Option<(&str, &str)> {
    if !digits.bytes().all(|byte| byte.is_ascii_digit()) || digits.starts_with('0') {
        return None;
    }
    let two: u8 = digits.get(..2)?.parse().ok()?;
    let country_len = match two {
        10..=19 | 70..=79 => 1,
        20
        | 27
        | 30..=34
        | 36
        | 39..=41
        | 43..=49
        | 51..=58
        | 60..=66
        | 81
        | 82
        | 84
        | 86
        | 90..=95
        | 98 => 2,
        _ => COUNTRY_DIGITS_MAX,
    };
    let (country, national) = digits.split_at_checked(country_len)?;
    (!national.is_empty()).then_some((country, national))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn finds(typed: &str, number: &str) -> bool {
        NumberPattern::new(typed).matches(number)
    }

    #[test]
    fn every_spelling_finds_every_spelling() {
        let spellings = [
            "+48221234567",
            "0048221234567",
            "221234567",
            "0221234567",
            "+48 22 123 45 67",
            "0048-22-123.45.67",
            " (022) 123/4567 ",
        ];
        for typed in spellings {
            for number in spellings {
                assert!(finds(typed, number), "{typed} does not find {number}");
            }
            assert!(!finds(typed, "+48221234568"), "{typed}");
            assert!(!finds(typed, "reception"), "{typed}");
        }
        // Without `+` the country code cannot be told, but the digits are the same.
        for typed in ["48221234567", "+48221234567", "221234567"] {
            assert!(finds(typed, "48221234567"), "{typed}");
            assert!(finds("48221234567", "+48221234567"));
        }
    }

    #[test]
    fn another_country_is_another_number() {
        assert!(!finds("+49221234567", "+48221234567"));
        assert!(!finds("0049221234567", "0048 221234567"));
        assert!(finds("+49221234567", "221234567"), "ambiguous: recorded without a country");
        assert!(!finds("+221234567", "+48221234567"), "a plus begins a number");
        assert!(!finds("0234567", "+48221234567"), "a trunk zero begins a national number");
    }

    #[test]
    fn country_codes_have_one_to_three_digits() {
        for (digits, country) in [
            ("12125551234", "1"),
            ("79161234567", "7"),
            ("48221234567", "48"),
            ("390612345678", "39"),
            ("35312345678", "353"),
            ("2341234567", "234"),
            ("9981234567", "998"),
        ] {
            assert_eq!(split_country(digits).map(|split| split.0), Some(country), "{digits}");
        }
        for digits in ["48", "1", "", "0481", "353", "4*1"] {
            assert_eq!(split_country(digits), None, "{digits}");
        }
    }

    #[test]
    fn the_end_of_a_number_finds_it_across_the_country_code() {
        for typed in ["7", "4567", "1234567", "8221234567", "48221234567", "*4567", "* 45-67"] {
            assert!(finds(typed, "+48221234567"), "{typed}");
        }
        for typed in ["", "*", "+", "**", "1234", "9221234567", "%", "_"] {
            assert!(!finds(typed, "+48221234567"), "{typed}");
        }
        assert!(finds("353", "00353") && finds("12", "0012") && finds("0012", "0012"));
        assert!(finds("0", "4930") && !finds("0", "4931"));
    }

    #[test]
    fn a_star_at_the_end_asks_for_the_beginning() {
        for typed in ["+4822*", "004822*", "4822*", "022*", "22*", "+48*", "+4*", "+*", "00*"] {
            assert!(finds(typed, "+48 22 1234567"), "{typed}");
        }
        for typed in ["+4823*", "23*", "*", "0*", "+221*", "00221*"] {
            assert!(!finds(typed, "+48 22 1234567"), "{typed}");
        }
        for typed in ["022*", "22*", "0*", "+4822*", "004822*"] {
            assert!(finds(typed, "0221234567"), "{typed}");
        }
        assert!(
            !finds("+48*", "48221") && finds("+4822*", "48221"),
            "a plus begins a country code"
        );
        assert!(finds("022*", "221234567") && finds("22*", "221234567"));
    }

    #[test]
    fn names_and_codes_are_found_as_they_are() {
        assert!(finds("alice", "alice") && finds("ice", "alice") && finds("al*", "alice"));
        assert!(!finds("alice", "Alice") && !finds("lic", "alice"));
        assert!(finds("pbx-12", "pbx-12") && finds("12", "pbx-12") && finds("pbx*", "pbx-12"));
        assert!(finds("*21#", "*21#") && finds("21#", "*21#") && finds("*21*", "*21#"));
        assert!(finds("reception+1", "reception+1") && finds("müller", "müller"));
    }
}
