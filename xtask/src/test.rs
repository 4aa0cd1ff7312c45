//! `cargo xtask test`

use std::process::{Command, Stdio};
use std::time::Instant;

use clap::Args;

use crate::cargo::Workspace;
use crate::error::Error;
use crate::process::run;
use crate::tools::{self, Tool};

/// Runs the tests.
#[derive(Args)]
pub(crate) struct Test {
    /// Only tests whose names contain one of these.
    filters: Vec<String>,
}

impl Test {
    pub(crate) fn run(&self) -> Result<(), Error> {
        let begun = Instant::now();
        let workspace = Workspace::find()?;
        let missing = tools::provide();
        let required = std::env::var_os("CI").is_some_and(|ci| ci == "true" || ci == "1");
        tell_missing(&missing, required);

        // The end-to-end tests start the real programs: the same profile as the tests, so that nothing is built twice.
        run(workspace.cargo(&["build", "--workspace", "--bins"]), "the build of the programs")?;
        let mut failed = Vec::new();
        for (what, mut command) in
            [("tests", self.tests(&workspace)), ("documentation tests", self.doc_tests(&workspace))]
        {
            command.env("HSM_E2E_BIN_DIR", workspace.debug());
            if required {
                command.env("HSM_TEST_REQUIRE_TOOLS", "1");
            }
            match run(command, what) {
                Ok(()) => {}
                Err(Error::Failed { .. }) => failed.push(what.to_owned()),
                Err(error) => return Err(error),
            }
        }

        println!();
        tell_missing(&missing, required);
        if !failed.is_empty() {
            return Err(Error::Tests(failed));
        }
        let which = if self.filters.is_empty() { "all tests" } else { "the tests that match" };
        println!("xtask: {which} passed, after {} s", begun.elapsed().as_secs());
        Ok(())
    }

    /// By nextest where it is installed: each test in a process of its own, failures at the end.
    fn tests(&self, workspace: &Workspace) -> Command {
        if has_nextest(workspace) {
            let mut command = workspace.cargo(&["nextest", "run", "--workspace", "--no-fail-fast"]);
            command.args(&self.filters);
            return command;
        }
        let mut command = workspace.cargo(&["test", "--workspace", "--tests", "--no-fail-fast", "--"]);
        command.args(&self.filters);
        command
    }

    fn doc_tests(&self, workspace: &Workspace) -> Command {
        let mut command = workspace.cargo(&["test", "--workspace", "--doc", "--no-fail-fast", "--"]);
        command.args(&self.filters);
        command
    }
}

fn has_nextest(workspace: &Workspace) -> bool {
    let mut command = workspace.cargo(&["nextest", "--version"]);
    command.stdout(Stdio::null()).stderr(Stdio::null());
    run(command, "nextest").is_ok()
}

fn tell_missing(missing: &[Tool], required: bool) {
    for tool in missing {
        let consequence = if required { "will fail" } else { "are skipped" };
        println!(
            "xtask: {} is not installed; tests {consequence} that need it: {}",
            tool.program, tool.tests
        );
    }
}
