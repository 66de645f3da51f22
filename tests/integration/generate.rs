use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

use crate::program::program_path;

fn generate(what: &str, folder: &Path) -> BTreeSet<String> {
    let program = program_path();
    assert!(Command::new(program).args(["generate", what]).arg(folder).status().unwrap().success());
    let files = fs::read_dir(folder).unwrap();
    files.map(|file| file.unwrap().file_name().into_string().unwrap()).collect()
}

#[test]
fn every_command_has_a_man_page() {
    let folder = tempfile::tempdir().unwrap();
    // A folder that is not there yet.
    let folder = folder.path().join("man1");
    let pages = generate("man", &folder);
    for command in ["", "-run", "-check", "-allow", "-allow-add", "-allow-list", "-allow-check"] {
        assert!(pages.contains(&format!("trailgate{command}.1")), "{command} is not in {pages:?}");
    }
    assert!(!pages.iter().any(|page| page.contains("generate")), "{pages:?}");
    let page = fs::read_to_string(folder.join("trailgate-allow-add.1")).unwrap();
    assert!(page.contains(r"\-\-until"), "{page}");
}

#[test]
fn every_shell_completes_the_commands() {
    let folder = tempfile::tempdir().unwrap();
    let files = generate("completions", folder.path());
    assert_eq!(files, ["_trailgate", "trailgate.bash", "trailgate.fish"].map(str::to_owned).into());
    for file in files {
        let script = fs::read_to_string(folder.path().join(&file)).unwrap();
        assert!(script.contains("allow") && script.contains("until"), "{file}");
    }
}
