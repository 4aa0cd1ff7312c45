//! Records as events of AWS CloudTrail: what reads CloudTrail's JSON reads these.
//!
//! The fields are those of "CloudTrail record contents" in AWS's user guide. Those that only AWS can fill (`awsRegion`,
//! `recipientAccountId`) are left out; what CloudTrail has no field for is in `additionalEventData`.

use data_encoding::HEXLOWER;
use keycore_audit::{Command, Outcome, Peer, Record};
use serde_json::{Value, json};

use super::record::{command, moment, outcome, peer_view, subject_view};

/// Version of the record's form.
const EVENT_VERSION: &str = "1.11";

/// Who made the events.
const EVENT_SOURCE: &str = "hsm-engine";

pub(super) fn event(record: &Record<'_>) -> Value {
    let entry = &record.entry;
    let is_data = entry.command == Command::Data;
    let mut event = json!({
        "eventVersion": EVENT_VERSION,
        "eventID": event_id(record),
        "eventTime": moment(entry.time_micros),
        "eventSource": EVENT_SOURCE,
        "eventName": entry.operation,
        "eventType": if entry.command == Command::Engine { "HsmServiceEvent" } else { "HsmApiCall" },
        "eventCategory": if is_data { "Data" } else { "Management" },
        "managementEvent": !is_data,
        "userIdentity": identity(record),
        "sourceIPAddress": match entry.peer {
            Some(Peer::Remote { address, .. }) => address.ip().to_string(),
            Some(Peer::Local { .. }) => "unix socket".to_owned(),
            None => "hsm-engine".to_owned(),
        },
        "requestID": format!("{}.{}.{}.{}", record.replica, record.boot, entry.connection, entry.time_micros),
        "requestParameters": subject_view(&entry.subject),
        "responseElements": Value::Null,
        "additionalEventData": {
            "replica": record.replica,
            "sequence": record.sequence,
            "boot": record.boot,
            "head": HEXLOWER.encode(&record.head.0),
            "timeMicros": entry.time_micros,
            "connection": entry.connection,
            "command": command(entry.command),
            "opcode": format!("{:#04x}", entry.opcode),
            "outcome": outcome(entry.outcome),
            "peer": entry.peer.map(peer_view),
        },
    });
    match entry.outcome {
        Outcome::Refused(code) => {
            event["errorCode"] = code.name().into();
            event["errorMessage"] = entry.detail.into();
        }
        Outcome::Done if !entry.detail.is_empty() => {
            event["responseElements"] = json!({ "detail": entry.detail });
        }
        Outcome::Begun | Outcome::Done => {}
    }
    event
}

fn identity(record: &Record<'_>) -> Value {
    let session = record.entry.session.map(|session| HEXLOWER.encode(&session.0));
    match &record.entry.user {
        Some(user) => json!({
            "type": "HsmUser",
            "userName": user.name,
            "principalId": user.id.map(|id| id.to_string()),
            "accessKeyId": session,
        }),
        None if record.entry.command == Command::Engine => json!({ "type": "HsmEngine" }),
        None => json!({ "type": "Unknown", "accessKeyId": session }),
    }
}

/// A UUID (RFC 9562, version 8) from the chain's head: the same record has the same in every export, and no other has it.
fn event_id(record: &Record<'_>) -> String {
    let mut id = [0; 16];
    id.copy_from_slice(&record.head.0[..16]);
    id[6] = id[6] & 0x0f | 0x80;
    id[8] = id[8] & 0x3f | 0x80;
    let digits = HEXLOWER.encode(&id);
    [&digits[..8], &digits[8..12], &digits[12..16], &digits[16..20], &digits[20..]].join("-")
}
