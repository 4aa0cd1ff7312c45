//! sslyze, in a Python environment of its own.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::front::Front;
use super::{Finding, Severity, Target};
use crate::error::Error;
use crate::process::{find, run};

/// What is installed from PyPI.
const VERSION: &str = "sslyze==6.3.1";

pub(super) struct Sslyze {
    program: PathBuf,
    reports: PathBuf,
}

impl Sslyze {
    /// Installs it below `directory`, unless it is there. `None`, with a word why, if it can't be installed.
    pub(super) fn provide(directory: &Path) -> Result<Option<Self>, Error> {
        let environment = directory.join("sslyze");
        let program = environment.join("bin/sslyze");
        if !program.is_file() {
            println!("xtask: installing {VERSION} into {}", environment.display());
            if let Err(error) = install(directory, &environment) {
                println!("xtask: sslyze is skipped, it can't be installed: {error}");
                return Ok(None);
            }
        }
        Ok(Some(Self { program, reports: directory.to_owned() }))
    }

    /// What it finds, also against Mozilla's guidelines; its report stays in the directory.
    pub(super) fn scan(&self, front: &Front, target: Target) -> Result<Vec<Finding>, Error> {
        let file = super::report_file(&self.reports, &format!("sslyze-{}.json", target.name()))?;
        let mut command = Command::new(&self.program);
        command.arg("--json_out").arg(&file).arg("--certinfo_ca_file").arg(front.ca());
        // The guidelines bring their own checks; these come on top.
        command.args(["--early_data", "--fallback", "--reneg", "--mozilla_config", target.preset()]);
        command.arg(front.server(target)).stdin(Stdio::null());
        // It fails where the guidelines are not met; what it says decides.
        let output = command
            .output()
            .map_err(|source| Error::Start { program: self.program.display().to_string(), source })?;
        let text = String::from_utf8_lossy(&output.stdout);
        let json = std::fs::read_to_string(&file).map_err(Error::file(&file))?;
        let mut findings = parse(&json)?;
        findings.extend(guidelines(&text)?);
        Ok(findings)
    }
}

fn install(directory: &Path, environment: &Path) -> Result<(), Error> {
    let python = find("python3").ok_or(Error::MissingTool("python3"))?;
    std::fs::create_dir_all(directory).map_err(Error::file(directory))?;
    let mut command = Command::new(python);
    command.args(["-m", "venv"]).arg(environment);
    run(command, "python3 -m venv")?;
    let mut command = Command::new(environment.join("bin/pip"));
    command.args(["install", "--quiet", "--disable-pip-version-check", VERSION]);
    run(command, "pip install")
}

/// What of a scan command's result is bad, and how bad: the command, a member, what makes it bad.
const CHECKS: [(&str, &str, Bad, Severity); 13] = [
    ("ssl_2_0_cipher_suites", "is_tls_version_supported", Bad::If(true), Severity::Critical),
    ("ssl_3_0_cipher_suites", "is_tls_version_supported", Bad::If(true), Severity::High),
    ("tls_1_0_cipher_suites", "is_tls_version_supported", Bad::If(true), Severity::Medium),
    ("tls_1_1_cipher_suites", "is_tls_version_supported", Bad::If(true), Severity::Medium),
    ("tls_1_3_cipher_suites", "is_tls_version_supported", Bad::If(false), Severity::Medium),
    ("heartbleed", "is_vulnerable_to_heartbleed", Bad::If(true), Severity::Critical),
    ("openssl_ccs_injection", "is_vulnerable_to_ccs_injection", Bad::If(true), Severity::High),
    ("robot", "robot_result", Bad::IfBegins("VULNERABLE"), Severity::High),
    ("tls_compression", "supports_compression", Bad::If(true), Severity::High),
    ("session_renegotiation", "is_vulnerable_to_client_renegotiation_dos", Bad::If(true), Severity::Medium),
    ("tls_1_3_early_data", "supports_early_data", Bad::If(true), Severity::Medium),
    ("session_renegotiation", "supports_secure_renegotiation", Bad::If(false), Severity::Low),
    ("tls_fallback_scsv", "supports_fallback_scsv", Bad::If(false), Severity::Low),
];

#[derive(Clone, Copy)]
enum Bad {
    If(bool),
    IfBegins(&'static str),
}

impl Bad {
    /// Whether this is bad; `None` if it is nothing that can be judged.
    fn is(self, value: &Value) -> Option<bool> {
        match self {
            Self::If(bad) => Some(value.as_bool()? == bad),
            Self::IfBegins(bad) => Some(value.as_str()?.starts_with(bad)),
        }
    }
}

/// What is read of its JSON. The rest is skipped unread: the numbers of an RSA key are in it, which no number here holds.
#[derive(Deserialize)]
struct Output {
    server_scan_results: Vec<ServerScan>,
}

#[derive(Deserialize)]
struct ServerScan {
    scan_status: String,
    scan_result: Option<Commands>,
}

#[derive(Default, Deserialize, Serialize)]
#[serde(default)]
struct Commands {
    ssl_2_0_cipher_suites: Value,
    ssl_3_0_cipher_suites: Value,
    tls_1_0_cipher_suites: Value,
    tls_1_1_cipher_suites: Value,
    tls_1_3_cipher_suites: Value,
    heartbleed: Value,
    openssl_ccs_injection: Value,
    robot: Value,
    tls_compression: Value,
    session_renegotiation: Value,
    tls_1_3_early_data: Value,
    tls_fallback_scsv: Value,
}

/// Its JSON. A check that sslyze did not make, or whose result is not where it was, is a fault of the scan.
fn parse(text: &str) -> Result<Vec<Finding>, Error> {
    let unread = |what: &str| Error::ScanReport(format!("sslyze: {what}"));
    let output: Output = serde_json::from_str(text).map_err(|error| unread(&error.to_string()))?;
    let scan = output.server_scan_results.into_iter().next().ok_or_else(|| unread("no server"))?;
    let Some(result) = scan.scan_result.filter(|_| scan.scan_status == "COMPLETED") else {
        return Err(unread(&format!("the scan is not completed: {}", scan.scan_status)));
    };
    let result = serde_json::to_value(result).map_err(|error| unread(&error.to_string()))?;
    let checks = CHECKS.iter().map(|(command, member, bad, severity)| {
        let value = &result[command]["result"][member];
        let is_bad = bad.is(value).ok_or_else(|| unread(&format!("no {member} of {command}")))?;
        let severity = if is_bad { *severity } else { Severity::Ok };
        Ok(Finding { id: (*command).to_owned(), severity, finding: format!("{member}: {value}") })
    });
    checks.collect()
}

/// What it says of Mozilla's guidelines: a line that they are met, or one for each that is not.
fn guidelines(text: &str) -> Result<Vec<Finding>, Error> {
    let unread = || Error::ScanReport("sslyze: no word on Mozilla's guidelines".to_owned());
    let (_, verdict) = text.split_once("COMPLIANCE AGAINST").ok_or_else(unread)?;
    if verdict.contains(": OK - Compliant") {
        let finding = "met".to_owned();
        return Ok(vec![Finding { id: "mozilla".to_owned(), severity: Severity::Ok, finding }]);
    }
    let points = verdict.lines().filter_map(|line| line.trim().strip_prefix("* ")?.split_once(": "));
    let findings: Vec<_> = points
        .map(|(id, finding)| Finding {
            id: format!("mozilla {id}"),
            severity: Severity::Medium,
            finding: finding.to_owned(),
        })
        .collect();
    if findings.is_empty() { Err(unread()) } else { Ok(findings) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A scan in which nothing is bad.
    fn good() -> Value {
        let mut scan = serde_json::json!({ "scan_status": "COMPLETED", "scan_result": {} });
        for (command, member, bad, _) in CHECKS {
            scan["scan_result"][command]["result"][member] = match bad {
                Bad::If(bad) => (!bad).into(),
                Bad::IfBegins(_) => "NOT_VULNERABLE_NO_ORACLE".into(),
            };
        }
        serde_json::json!({ "server_scan_results": [scan] })
    }

    #[test]
    fn each_check_is_found_bad_and_none_may_be_missing() {
        let findings = parse(&good().to_string()).unwrap();
        assert!(findings.iter().all(|finding| finding.severity == Severity::Ok));
        for (at, (command, member, bad, severity)) in CHECKS.iter().enumerate() {
            let mut json = good();
            let value = &mut json["server_scan_results"][0]["scan_result"][command]["result"][member];
            *value = match bad {
                Bad::If(bad) => (*bad).into(),
                Bad::IfBegins(bad) => format!("{bad}_WEAK_ORACLE").into(),
            };
            assert_eq!(parse(&json.to_string()).unwrap()[at].severity, *severity, "{command}");
            json["server_scan_results"][0]["scan_result"][command] = Value::Null;
            assert!(matches!(parse(&json.to_string()), Err(Error::ScanReport(_))), "{command}");
        }
        let mut json = good();
        json["server_scan_results"][0]["scan_status"] = "ERROR_NO_CONNECTIVITY".into();
        assert!(parse(&json.to_string()).is_err());
    }

    #[test]
    fn numbers_of_an_rsa_key_are_skipped() {
        let key = format!(r#""scan_result":{{"certificate_info":{{"n":{}}},"#, "9".repeat(617));
        let json = good().to_string().replace(r#""scan_result":{"#, &key);
        assert_eq!(parse(&json).unwrap().len(), CHECKS.len());
    }

    #[test]
    fn guidelines_are_met_or_told_one_by_one() {
        let verdict = |text: &str| guidelines(&format!(" COMPLIANCE AGAINST TLS CONFIGURATION\n\n{text}"));
        assert_eq!(verdict("    localhost:1: OK - Compliant.\n").unwrap()[0].severity, Severity::Ok);
        let text = "    localhost:1: FAILED - Not compliant.\n        * tls_versions: TLSv1 is offered.\n        * ciphers: one: two\n";
        let findings = verdict(text).unwrap();
        assert_eq!(findings.len(), 2);
        assert_eq!((&*findings[1].id, &*findings[1].finding), ("mozilla ciphers", "one: two"));
        assert!(verdict("    localhost:1: ERROR - Scan did not run successfully.\n").is_err());
        assert!(guidelines("nothing").is_err());
    }
}
