//! The rooms have an order, and the files of `control` a direction: no file imports, by way of others, from one that imports from it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// Modules (as paths below `control`, such as `handlers::flows`) with the text of their production code.
fn modules(root: &Path) -> BTreeMap<Vec<String>, String> {
    let mut found = BTreeMap::new();
    let mut left = vec![root.to_owned()];
    while let Some(dir) = left.pop() {
        let entries = fs::read_dir(&dir).unwrap().map(|entry| entry.unwrap().path());
        let (dirs, files): (Vec<PathBuf>, Vec<PathBuf>) = entries.partition(|path| path.is_dir());
        left.extend(dirs);
        for file in files {
            let mut names: Vec<String> = file
                .strip_prefix(root)
                .unwrap()
                .with_extension("")
                .iter()
                .map(|part| part.to_str().unwrap().to_owned())
                .collect();
            if names.last().is_some_and(|name| name == "mod") {
                names.pop();
            }
            let text = fs::read_to_string(&file).unwrap();
            let code = text.split("\n#[cfg(test)]\nmod ").next().unwrap();
            let code: Vec<&str> = code.lines().filter(|line| !line.trim_start().starts_with("//")).collect();
            found.insert(names, code.join("\n"));
        }
    }
    found
}

/// All paths that a `use` tree or an expression behind a prefix names: `a::{b, c::d}` is `a::b` and `a::c::d`.
fn tree(text: &str) -> Vec<Vec<String>> {
    let end = text.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(text.len());
    let (name, rest) = text.split_at(end);
    if let Some(inside) = rest.trim_start().strip_prefix('{').filter(|_| name.is_empty()) {
        let (mut depth, mut starts) = (1, vec![0]);
        for (at, c) in inside.char_indices() {
            match c {
                '{' => depth += 1,
                '}' => depth -= 1,
                ',' if depth == 1 => starts.push(at + 1),
                _ => {}
            }
            if depth == 0 {
                break;
            }
        }
        return starts.into_iter().flat_map(|start| tree(inside[start..].trim_start())).collect();
    }
    let below = rest.strip_prefix("::").map_or_else(Vec::new, tree);
    if below.is_empty() {
        return vec![vec![name.to_owned()]];
    }
    let join = |path: Vec<String>| [name.to_owned()].into_iter().chain(path).collect();
    below.into_iter().map(join).collect()
}

/// Modules of which this one uses something.
fn uses(of: &[String], code: &str, all: &BTreeMap<Vec<String>, String>) -> BTreeSet<Vec<String>> {
    let mut found = BTreeSet::new();
    for (prefix, up) in [("crate::control::", None), ("super::super::", Some(2)), ("super::", Some(1))] {
        for (at, _) in code.match_indices(prefix) {
            // "super::" is looked at once, at its longest.
            let inside = code[..at].ends_with("super::")
                || prefix == "super::" && code[at..].starts_with("super::super::");
            if inside {
                continue;
            }
            let Some(base) = up.map_or(Some(&of[..0]), |up| of.len().checked_sub(up).map(|n| &of[..n]))
            else {
                continue;
            };
            for path in tree(&code[at + prefix.len()..]) {
                let full: Vec<String> = base.iter().cloned().chain(path).collect();
                let module = (0..=full.len()).rev().map(|n| &full[..n]).find(|path| all.contains_key(*path));
                found.extend(module.filter(|path| !path.is_empty()).map(<[String]>::to_vec));
            }
        }
    }
    found.remove(of);
    found
}

/// A circle of modules, if there is one.
fn circle(arrows: &BTreeMap<Vec<String>, BTreeSet<Vec<String>>>) -> Option<Vec<String>> {
    fn visit(
        at: &Vec<String>,
        arrows: &BTreeMap<Vec<String>, BTreeSet<Vec<String>>>,
        way: &mut Vec<Vec<String>>,
        done: &mut BTreeSet<Vec<String>>,
    ) -> Option<Vec<String>> {
        if let Some(start) = way.iter().position(|other| other == at) {
            return Some(way[start..].iter().map(|path| path.join("::")).collect());
        }
        if !done.contains(at) {
            way.push(at.clone());
            for to in arrows.get(at).into_iter().flatten() {
                if let Some(found) = visit(to, arrows, way, done) {
                    return Some(found);
                }
            }
            way.pop();
            done.insert(at.clone());
        }
        None
    }
    let mut done = BTreeSet::new();
    arrows.keys().find_map(|at| visit(at, arrows, &mut Vec::new(), &mut done))
}

#[test]
fn control_has_no_import_circle() {
    let all = modules(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src/control"));
    let arrows: BTreeMap<_, _> =
        all.iter().map(|(path, code)| (path.clone(), uses(path, code, &all))).collect();
    assert!(arrows.len() > 20 && arrows.values().map(BTreeSet::len).sum::<usize>() > 30, "{arrows:?}");
    assert_eq!(circle(&arrows), None);
}

#[test]
fn circles_are_seen() {
    let all: BTreeMap<Vec<String>, String> = [
        ("a", "use super::b::{self, X};"),
        ("b", "fn f() { crate::control::c::d::g() }"),
        ("c", ""),
        ("c::d", "use crate::control::{e::Z, a::{Y}};"),
        ("e", "use std::fmt;"),
    ]
    .into_iter()
    .map(|(path, code)| (path.split("::").map(str::to_owned).collect(), code.to_owned()))
    .collect();
    let arrows = all.iter().map(|(path, code)| (path.clone(), uses(path, code, &all))).collect();
    assert_eq!(circle(&arrows).unwrap(), ["a", "b", "c::d"]);
}

/// From low to high.
const ROOMS: [&str; 4] = ["tunnel", "bridge", "slowpath", "control"];

#[test]
fn no_room_imports_a_higher_one() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut upward = Vec::new();
    for (at, room) in ROOMS.iter().enumerate() {
        let all = modules(&src.join(room));
        assert!(all.len() > 3, "{room}");
        for (path, code) in &all {
            let named = ROOMS[at + 1..].iter().filter(|higher| code.contains(&format!("crate::{higher}")));
            upward.extend(named.map(|higher| format!("{room}::{} imports {higher}", path.join("::"))));
        }
    }
    assert_eq!(upward, [""; 0]);
}
