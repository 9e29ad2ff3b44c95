//! The order of modules in lib.rs is the order of the layers: a module uses only those above it.

#![allow(clippy::unwrap_used, reason = "a test fails where it unwraps")]

use std::path::{Path, PathBuf};

/// Modules in the order of lib.rs.
fn layers(source: &Path) -> Vec<String> {
    let lib = std::fs::read_to_string(source.join("lib.rs")).unwrap();
    let module = |line: &str| Some(line.strip_prefix("pub mod ")?.strip_suffix(';')?.to_owned());
    lib.lines().filter_map(module).collect()
}

/// All files of a module.
fn files(source: &Path, module: &str) -> Vec<PathBuf> {
    let mut found = vec![source.join(format!("{module}.rs"))];
    let mut folders = vec![source.join(module)];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).into_iter().flatten() {
            let path = entry.unwrap().path();
            if path.is_dir() { folders.push(path) } else { found.push(path) }
        }
    }
    found.retain(|path| path.extension().is_some_and(|e| e == "rs") && path.exists());
    found
}

/// Modules that a line of code names behind `crate::`.
fn used(line: &str) -> impl Iterator<Item = &str> {
    let code = if line.trim_start().starts_with("//") { "" } else { line };
    let word =
        |rest: &'_ str| rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(rest.len());
    code.split("crate::").skip(1).map(move |rest| &rest[..word(rest)])
}

#[test]
fn a_module_uses_only_modules_above_it() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let layers = layers(&source);
    assert!(layers.len() > 5, "{layers:?}");
    let mut wrong = Vec::new();
    for (layer, module) in layers.iter().enumerate() {
        let files = files(&source, module);
        assert!(!files.is_empty(), "{module} has no file");
        for path in files {
            for (number, line) in std::fs::read_to_string(&path).unwrap().lines().enumerate() {
                for name in used(line) {
                    let above =
                        layers.iter().position(|known| known == name).is_none_or(|other| other <= layer);
                    if !above {
                        wrong.push(format!("{}:{}: {name} is below {module}", path.display(), number + 1));
                    }
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
