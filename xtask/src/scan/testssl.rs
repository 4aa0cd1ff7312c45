//! testssl.sh.

use std::path::Path;
use std::process::{Command, Stdio};

use super::front::Front;
use super::{Finding, Target};
use crate::error::Error;

/// The first exit status that means that there was no scan; lower ones count what was found.
const FIRST_ERROR: i32 = 242;

/// What it finds. Takes minutes; its report stays in the directory `reports`.
pub(super) fn scan(
    program: &Path,
    reports: &Path,
    front: &Front,
    target: Target,
) -> Result<Vec<Finding>, Error> {
    let file = super::report_file(reports, &format!("testssl-{}.json", target.name()))?;
    let mut command = Command::new(program);
    command.arg("--jsonfile").arg(&file).arg("--add-ca").arg(front.ca());
    command.args(["--warnings", "off", "--color", "0", "--quiet", "--ip", "127.0.0.1", "--nodns", "none"]);
    command.arg(front.server(target)).stdin(Stdio::null()).stdout(Stdio::null());
    let status =
        command.status().map_err(|source| Error::Start { program: program.display().to_string(), source })?;
    if status.code().is_none_or(|code| code >= FIRST_ERROR) {
        return Err(Error::Failed { what: format!("testssl.sh of {}", target.name()), status });
    }
    parse(&std::fs::read_to_string(&file).map_err(Error::file(&file))?)
}

/// Its flat JSON. A scan that did not come to its end has found nothing.
fn parse(text: &str) -> Result<Vec<Finding>, Error> {
    let findings: Vec<Finding> =
        serde_json::from_str(text).map_err(|error| Error::ScanReport(format!("testssl.sh: {error}")))?;
    let seconds = findings.iter().find(|finding| finding.id == "scanTime").map(|time| &time.finding);
    if seconds.is_none_or(|seconds| seconds.parse::<u32>().is_err()) {
        return Err(Error::ScanReport("testssl.sh: the scan was interrupted".to_owned()));
    }
    Ok(findings)
}

#[cfg(test)]
mod tests {
    use super::super::Severity;
    use super::*;

    #[test]
    fn a_whole_scan_is_read_and_half_of_one_is_none() {
        let item = |id: &str, severity: &str, finding: &str| {
            serde_json::json!({
                "id": id, "ip": "localhost/127.0.0.1", "port": "443", "severity": severity, "finding": finding,
            })
        };
        let suite = item("TLS1", "OK", "not offered");
        let whole = serde_json::json!([suite, item("scanTime", "INFO", "249")]).to_string();
        let findings = parse(&whole).unwrap();
        assert_eq!((findings.len(), findings[0].severity), (2, Severity::Ok));
        for half in [
            serde_json::json!([suite]),
            serde_json::json!([suite, item("scanTime", "WARN", "Scan interrupted")]),
            serde_json::json!([item("TLS1", "AWFUL", "offered"), item("scanTime", "INFO", "249")]),
        ] {
            assert!(matches!(parse(&half.to_string()), Err(Error::ScanReport(_))), "{half}");
        }
    }
}
