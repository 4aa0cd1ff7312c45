//! `hsm cluster self-test`.

use keycore_client::{Endpoint, Error};
use keycore_wire::{SelfTest, SelfTestReport};
use serde_json::{Value, json};

use super::{ask_all, nobody_answers, reason};
use crate::connection::Connection;
use crate::failure::Failure;
use crate::output::{Answer, timestamp};

/// Lets all engines test themselves. Fails if one of them failed a test, or none can be reached.
pub(super) fn run(connection: &Connection) -> Result<Answer, Failure> {
    let endpoints = connection.endpoints()?;
    let reports = ask_all(&endpoints, connection.timeout(), &SelfTest);
    let asked = || endpoints.iter().zip(&reports);
    let failed: Vec<_> = asked().filter_map(|(endpoint, report)| failure(endpoint, report)).collect();
    if !failed.is_empty() {
        return Err(Failure::SelfTest(failed));
    }
    if reports.iter().all(Result::is_err) {
        return Err(nobody_answers(reports));
    }
    let text: String = asked().map(|(endpoint, report)| line(endpoint, report)).collect();
    let engines: Vec<_> = asked().map(|(endpoint, report)| view(endpoint, report)).collect();
    Ok(Answer::new(text, json!({ "engines": engines })))
}

fn failure(endpoint: &Endpoint, report: &Result<SelfTestReport, Error>) -> Option<String> {
    let test = report.as_ref().ok()?.failed.as_ref()?;
    Some(format!("{endpoint}: {test}"))
}

fn line(endpoint: &Endpoint, report: &Result<SelfTestReport, Error>) -> String {
    match report {
        Ok(report) => {
            let module = if report.fips { ", FIPS module" } else { "" };
            let (count, at) = (report.tests.len(), timestamp(report.ran_at));
            let mut text =
                format!("{endpoint}: {count} self-tests passed at {at}; {}{module}\n", report.library);
            for test in &report.tests {
                text.push_str(&format!("  {}  ({})\n", test.name, test.source));
            }
            text
        }
        Err(error) => format!("unreachable: {endpoint}: {}\n", reason(error)),
    }
}

fn view(endpoint: &Endpoint, report: &Result<SelfTestReport, Error>) -> Value {
    let mut view = match report {
        Ok(report) => json!({
            "ran_at": timestamp(report.ran_at),
            "library": report.library,
            "fips": report.fips,
            "failed": report.failed,
            "tests": report.tests.iter().map(|test| {
                json!({ "name": test.name, "source": test.source, "passed": test.passed })
            }).collect::<Vec<_>>(),
        }),
        Err(error) => json!({ "error": reason(error) }),
    };
    view["engine"] = endpoint.to_string().into();
    view
}
