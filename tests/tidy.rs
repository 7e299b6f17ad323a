//! The style guide, executable: what a program can check of it is checked here.
//!
//! Purpose: a rule nobody checks is a wish. A fault's message says where, and what to do instead.
//! Invariants: reads the tree, changes nothing (but docs/LIMITS.md with `CALLSPAN_BLESS=1`); every
//! check is shown to fail on a bad example in `tidy/selftest.rs`.
//! Non-goals: what rustfmt, clippy and rustc say.
//! Sources: style.md §6 "tests/tidy.rs", design.md "Layers".

#[path = "tidy/checks.rs"]
mod checks;
#[path = "tidy/selftest.rs"]
mod selftest;
#[path = "tidy/source.rs"]
mod source;

use checks::Grants;
use source::Source;
use std::fs;
use std::path::{Path, PathBuf};

const TOP_FOLDERS: [&str; 8] =
    ["src", "tests", "benches", "fuzz", "docs", "systemd", "examples", ".ci"];
const IGNORED_FOLDERS: [&str; 8] =
    ["target", "build", ".git", ".github", ".cargo", ".jj", "node_modules", "__pycache__"];

/// The package; at run time, so that the built test can be pointed at another tree.
fn root() -> PathBuf {
    let given = std::env::var_os("CARGO_MANIFEST_DIR");
    given.map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from)
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_default()
}

/// Files under `folder`, relative to the package, sorted.
fn files(folder: &str) -> Vec<String> {
    fn walk(directory: &Path, found: &mut Vec<PathBuf>) {
        let Ok(entries) = fs::read_dir(directory) else { return };
        for entry in entries.flatten() {
            let (path, name) = (entry.path(), entry.file_name());
            let ignored = IGNORED_FOLDERS.iter().any(|folder| name == *folder);
            if path.is_dir() && !path.is_symlink() && !ignored {
                walk(&path, found);
            } else if path.is_file() {
                found.push(path);
            }
        }
    }
    let (root, mut found) = (root(), Vec::new());
    walk(&root.join(folder), &mut found);
    let relative = found.iter().filter_map(|path| path.strip_prefix(&root).ok());
    let mut names: Vec<String> = relative.map(|path| path.to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

fn sources(folder: &str) -> Vec<Source> {
    let rust = files(folder)
        .into_iter()
        .filter(|path| Path::new(path).extension().is_some_and(|end| end == "rs"));
    rust.map(|path| Source::new(&path, &read(&path))).collect()
}

fn every_source() -> Vec<Source> {
    ["src", "tests", "benches", "fuzz/fuzz_targets"].into_iter().flat_map(sources).collect()
}

#[track_caller]
fn no_faults(faults: &[String]) {
    assert!(faults.is_empty(), "{} faults:\n{}", faults.len(), faults.join("\n"));
}

#[track_caller]
fn each(sources: &[Source], check: impl Fn(&Source) -> Vec<String>) {
    no_faults(&sources.iter().flat_map(check).collect::<Vec<_>>());
}

#[test]
fn files_have_at_most_600_lines() {
    each(&every_source(), checks::file_length);
}

#[test]
fn functions_have_at_most_70_lines() {
    each(&every_source(), checks::function_length);
}

#[test]
fn lower_layers_do_not_import_higher_ones_and_siblings_do_not_import_each_other() {
    let grants = Grants::parse(&read("ARCHITECTURE.md"));
    each(&sources("src"), |source| checks::import_layers(source, &grants));
}

#[test]
fn input_folders_cannot_panic() {
    each(&sources("src"), checks::no_panic_from_input);
}

#[test]
fn clocks_files_sockets_and_threads_stay_in_their_layers() {
    let grants = Grants::parse(&read("ARCHITECTURE.md"));
    each(&sources("src"), |source| checks::std_rights(source, &grants));
}

#[test]
fn hot_folders_do_not_format_or_log() {
    each(&sources("src"), checks::hot_folders_stay_quiet);
}

#[test]
fn unsafe_is_only_where_it_is_listed_and_says_why() {
    each(&sources("src"), checks::unsafe_is_listed);
}

#[test]
fn labels_are_their_variants_in_snake_case() {
    each(&sources("src"), checks::labels_are_variants);
}

#[test]
fn every_limit_is_in_docs_limits() {
    let limits = Source::new("src/base/limits.rs", &read("src/base/limits.rs"));
    no_faults(&checks::limits_are_documented(&limits));
    let page = checks::limits_page(&limits.text);
    if std::env::var_os("CALLSPAN_BLESS").is_some() {
        fs::create_dir_all(root().join("docs")).expect("docs can be made");
        fs::write(root().join("docs/LIMITS.md"), &page).expect("docs/LIMITS.md can be written");
    }
    let same = read("docs/LIMITS.md") == page;
    assert!(
        same,
        "docs/LIMITS.md is not what limits.rs says: `CALLSPAN_BLESS=1 cargo test --test tidy`"
    );
}

#[test]
fn every_metric_is_in_docs_metrics() {
    let page = read("docs/METRICS.md");
    let mut faults = Vec::new();
    for source in sources("src") {
        for (at, _) in source.text.match_indices("\"callspan_") {
            let name: String = source.text[at + 1..]
                .chars()
                .take_while(|c| c.is_alphanumeric() || *c == '_')
                .collect();
            let in_a_test = source.shipped.as_bytes().get(at) != Some(&b'"');
            if source.path.starts_with("src/ops/") && !in_a_test && !page.contains(&name) {
                faults.push(format!(
                    "{}: `{name}` is not in docs/METRICS.md: describe it there",
                    source.path
                ));
            }
        }
    }
    no_faults(&faults);
}

#[test]
fn module_docs_have_their_four_parts() {
    each(&sources("src"), checks::module_doc_has_four_parts);
}

#[test]
fn public_functions_take_no_bool() {
    each(&sources("src"), checks::no_bool_parameters);
}

#[test]
fn nothing_is_left_over() {
    let mut all = every_source();
    all.retain(|source| !source.path.starts_with("tests/tidy"));
    each(&all, checks::nothing_left_over);
}

#[test]
fn names_are_not_abbreviated() {
    each(&sources("src"), checks::names_are_words);
}

#[test]
fn no_source_file_is_an_orphan() {
    let all: Vec<_> = sources("src").into_iter().map(|source| (source.path, source.text)).collect();
    assert!(all.len() > 10, "the tree was not read");
    no_faults(&checks::orphans(&all));
}

#[test]
fn no_file_names_a_place_on_one_machine() {
    let binary = [".pcap", ".pcapng", ".zst", ".gz", ".wav", ".opus", ".png"];
    let mut faults = Vec::new();
    for path in files("") {
        let skip =
            path == ".git" || path.starts_with("tests/tidy") || path.starts_with("fuzz/corpus");
        if !skip && !binary.iter().any(|end| path.ends_with(end)) {
            faults.extend(checks::no_machine_paths(&path, &read(&path)));
        }
    }
    no_faults(&faults);
}

#[test]
fn the_tree_has_its_pages_and_no_strange_folders() {
    let mut faults = Vec::new();
    for page in ["README.md", "ARCHITECTURE.md", "CHANGELOG.md", "LICENSE-MIT", "LICENSE-APACHE"] {
        if read(page).trim().is_empty() {
            faults.push(format!("{page} is missing: write it"));
        }
    }
    if read("ARCHITECTURE.md").lines().count() > 400 {
        faults.push("ARCHITECTURE.md has over 400 lines: shorten it, so that it stays true".into());
    }
    for entry in fs::read_dir(root()).expect("the package's folder can be read").flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let known =
            TOP_FOLDERS.contains(&name.as_str()) || IGNORED_FOLDERS.contains(&name.as_str());
        if entry.path().is_dir() && !known {
            faults.push(format!(
                "{name}/ is a folder that nobody drew: put it under one of {TOP_FOLDERS:?}"
            ));
        }
    }
    no_faults(&faults);
}
