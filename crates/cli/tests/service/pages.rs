//! Manual pages and completions, judged by those who read them.

use std::path::Path;
use std::process::Command;

use super::harness::{folder, has, run, shell};

#[test]
fn every_verb_of_the_help_has_a_page_that_man_and_mandoc_read_without_a_complaint() {
    let folder = folder();
    let directory = folder.path().join("man1");
    let done = run(&["man", "--dir", directory.to_str().unwrap()], b"");
    assert!(done.status.success(), "{done:?}");
    let help = String::from_utf8(run(&["--help"], b"").stdout).unwrap();
    let verbs = help.lines().skip_while(|line| *line != "Commands:").skip(1);
    let verbs: Vec<_> =
        verbs.take_while(|line| !line.is_empty()).filter_map(|l| l.split_whitespace().next()).collect();
    assert!(verbs.contains(&"serve"), "{help}");
    for verb in verbs.into_iter().filter(|verb| *verb != "help") {
        assert!(directory.join(format!("pcaphub-{verb}.1")).exists(), "{verb} has no page");
    }
    for page in std::fs::read_dir(&directory).unwrap() {
        let page = page.unwrap().path();
        if has("man") {
            let line = format!("MANWIDTH=100 man -l --warnings {} 2>&1 >/dev/null", page.display());
            assert_eq!(shell(&line), "", "{}", page.display());
        }
        if has("mandoc") {
            let lint =
                Command::new("mandoc").args(["-T", "lint", "-W", "error"]).arg(&page).output().unwrap();
            assert!(lint.status.success(), "{}", String::from_utf8_lossy(&lint.stdout));
        }
    }
}

#[test]
fn one_page_goes_to_standard_output() {
    let of = |words: &[&str]| String::from_utf8(run(words, b"").stdout).unwrap();
    assert!(of(&["man"]).contains("pcaphub \\- Moves packets"));
    let serve = of(&["man", "serve"]);
    assert!(serve.contains("pcaphub\\-serve \\- Every client"), "{serve}");
    assert!(serve.contains(".SH NOTES\n.nf\n"), "{serve}");
    let wrong = run(&["man", "levitate"], b"");
    assert_eq!(wrong.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&wrong.stderr).contains("there is no page pcaphub-levitate"));
}

#[test]
fn completions_are_what_each_shell_can_read() {
    let folder = folder();
    for shell in ["bash", "zsh", "fish"] {
        let done = run(&["completions", shell], b"");
        assert!(done.status.success() && done.stdout.len() > 1000, "{shell}: {done:?}");
        let path = folder.path().join(shell);
        std::fs::write(&path, &done.stdout).unwrap();
        if has(shell) {
            let read = Command::new(shell).arg("-n").arg(&path).output().unwrap();
            assert!(read.status.success(), "{shell}: {}", String::from_utf8_lossy(&read.stderr));
        }
    }
    for shell in ["elvish", "powershell"] {
        assert!(run(&["completions", shell], b"").stdout.len() > 1000, "{shell}");
    }
    assert_eq!(run(&["completions", "abacus"], b"").status.code(), Some(2));
}

#[test]
fn bash_completes_verbs_and_options() {
    if !has("bash") {
        return;
    }
    let pcaphub = env!("CARGO_BIN_EXE_pcaphub");
    let complete = |words: &str, count: usize| {
        shell(&format!(
            "source <({pcaphub} completions bash); COMP_WORDS=({words}); COMP_CWORD={count}; \
             _pcaphub pcaphub \"${{COMP_WORDS[-1]}}\" x; echo \"${{COMPREPLY[@]}}\""
        ))
    };
    assert_eq!(complete("pcaphub ser", 1).trim(), "serve");
    assert_eq!(complete("pcaphub serve --max-mem", 2).trim(), "--max-memory");
    assert_eq!(complete("pcaphub intercep", 1).trim(), "", "what is not built is not offered");
}

/// All Rust below a folder.
fn code_below(folder: &Path, code: &mut String) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            code_below(&path, code);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            *code += &std::fs::read_to_string(path).unwrap();
        }
    }
}

#[test]
fn every_control_of_the_security_page_names_a_test_that_there_is() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let page = std::fs::read_to_string(root.join("SECURITY.md")).unwrap();
    let mut code = String::new();
    code_below(&root.join("crates"), &mut code);
    // A name of tests is a sentence: words, and more than three.
    let tests = |text: &str| {
        let quoted = text.split('`').skip(1).step_by(2).map(str::to_owned);
        let is_sentence = |word: &String| {
            word.matches('_').count() >= 3 && word.chars().all(|c| matches!(c, 'a'..='z' | '0'..='9' | '_'))
        };
        quoted.filter(is_sentence).collect::<Vec<_>>()
    };
    for name in tests(&page) {
        assert!(code.contains(&format!("fn {name}(")), "there is no test {name}");
    }
    let (_, holds) = page.split_once("## What holds today").unwrap();
    let controls = holds.split_once("\n## ").unwrap().0.split("\n- **").skip(1);
    let unproven: Vec<_> = controls.filter(|control| tests(control).is_empty()).collect();
    // What is told of them is below, in a table.
    let elsewhere = |control: &&str| control.starts_with("Privileges.");
    assert!(unproven.iter().all(elsewhere), "{unproven:#?}");
}
