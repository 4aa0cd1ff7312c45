//! Completions and manual pages, made from the definition of the arguments.

use std::path::Path;

use clap::CommandFactory;
use serde_json::json;

use crate::arguments::Cli;
use crate::failure::Failure;
use crate::output::Answer;

pub(crate) fn completions(shell: clap_complete::Shell) -> Answer {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "hsm", &mut script);
    let script = String::from_utf8_lossy(&script).into_owned();
    Answer::new(script.clone(), json!({ "script": script }))
}

pub(crate) fn man_pages(directory: &Path) -> Result<Answer, Failure> {
    let write = |source| Failure::Write { path: directory.to_owned(), source };
    std::fs::create_dir_all(directory).map_err(write)?;
    clap_mangen::generate_to(Cli::command(), directory).map_err(write)?;
    let text = format!("wrote the manual pages to {}", directory.display());
    Ok(Answer::new(text, json!({ "directory": directory })))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_and_scripts_are_made() {
        let directory = tempfile::tempdir().unwrap();
        man_pages(directory.path()).unwrap();
        let page = std::fs::read_to_string(directory.path().join("hsm-key-import.1")).unwrap();
        assert!(page.contains("PEM"));
        completions(clap_complete::Shell::Bash);
    }
}
