//! What an operation does, in the words that approvers read and sign. Two requests with the same words are the same to them:
//! secrets and idempotency keys are left out, every other argument is in.

use data_encoding::HEXLOWER;
use keycore_wire::{
    AttributeChange, CipherMechanism, DeriveMechanism, KeyTemplate, Request, SignMechanism, TlsSignTimed,
};

use crate::pipeline::known_as;
use crate::private_key::sha256;
use crate::unseal;

/// The operation and its arguments, a line each.
pub(super) fn of(request: &Request<'_>) -> String {
    let mut lines = Lines(format!("operation: {}\n", known_as(request).1));
    match request {
        Request::UserCreate(create) => lines
            .say("name", &create.name)
            .say("role", create.role)
            .say("password", if create.password.is_some() { "set by the proposer" } else { "none" })
            .say("peer-uid", create.peer_uid.map_or("none".to_owned(), |uid| uid.to_string())),
        Request::UserDelete(delete) => lines.say("name", &delete.name),
        Request::UserChangePassword(change) => {
            lines.say("name", change.name.as_ref().map_or("the proposer", |name| name.as_str()))
        }
        Request::UserSetPeerUid(set) => lines
            .say("name", &set.name)
            .say("peer-uid", set.peer_uid.map_or("none".to_owned(), |uid| uid.to_string())),
        Request::UserRemoveKey(remove) => lines.say("name", &remove.name).say("key", remove.purpose.name()),
        Request::QuorumSetValue(set) => lines.say("service", set.service).say("approvals", set.value),
        Request::QuorumSetPolicy(set) => {
            let kept = || "as it is".to_owned();
            lines
                .say("timeout", set.timeout_secs.map_or_else(kept, |secs| format!("{secs} seconds")))
                .say("self-approval", set.self_approval.map_or_else(kept, |on| on.to_string()))
        }
        Request::ChangeUnseal(change) => lines
            .say("unseal", unseal::in_words(change.method))
            .say("secret", if change.secret.is_some() { "set by the proposer" } else { "none" }),
        Request::PrepareCustodians(prepare) => {
            lines.say("unseal", unseal::custodians_in_words(prepare.needed, prepare.of))
        }
        Request::SetClusterCertificate(set) => {
            for certificate in &set.chain {
                lines.say_hash("certificate", certificate);
            }
            lines.say_hash("trust-anchor", &set.trust_anchor)
        }
        Request::SetAttribute(set) => match &set.change {
            AttributeChange::Set(attribute, on) => lines
                .say("key", set.key)
                .say("attribute", attribute)
                .say("value", if *on { "on" } else { "off" }),
            AttributeChange::Label(label) => lines.say("key", set.key).say("label", label),
        },
        Request::ShareKey(share) => lines.say("key", share.key).say("with", &share.with),
        Request::UnshareKey(unshare) => lines.say("key", unshare.key).say("with", &unshare.with),
        Request::RotateKey(rotate) => {
            lines.say("key", rotate.key).say("grace", format!("{} seconds", rotate.grace_secs))
        }
        Request::DeleteKey(delete) => lines.say("key", delete.key),
        Request::WrapKey(wrap) => {
            lines.say("key", wrap.key).say("wrapping-key", wrap.wrapping).say("mechanism", wrap.mechanism)
        }
        Request::UnwrapKey(unwrap) => lines
            .say("unwrapping-key", unwrap.unwrapping)
            .say("mechanism", unwrap.mechanism)
            .say("form", format!("{:?}", unwrap.form))
            .say_hash("wrapped", unwrap.wrapped)
            .say_template(&unwrap.template),
        Request::TlsSign(sign) | Request::TlsSignTimed(TlsSignTimed(sign)) => lines
            .say("public-key-sha256", sign.key)
            .say("scheme", format!("{:?}", sign.scheme))
            // Quoted and escaped: it is whatever the proposer likes.
            .say("site", format!("{:?}", sign.site))
            .say_hash("message", sign.message),
        Request::Sign(sign) => lines
            .say("key", sign.key)
            .say("scheme", format!("{:?}", sign.scheme))
            .say_hash("message", sign.message),
        Request::SignData(sign) => {
            lines.say("key", sign.key).say("mechanism", sign.mechanism);
            if let SignMechanism::Ecdsa(_, encoding) = sign.mechanism {
                lines.say("encoding", format!("{encoding:?}"));
            }
            lines
                .say("data-is", if sign.prehashed { "the message's digest" } else { "the message" })
                .say_hash("data", sign.data)
        }
        Request::Encrypt(encrypt) => lines
            .say("key", encrypt.key)
            .say_cipher(&encrypt.mechanism, encrypt.iv)
            .say_hash("data", encrypt.data),
        Request::Decrypt(decrypt) => lines
            .say("key", decrypt.key)
            .say_cipher(&decrypt.mechanism, decrypt.iv)
            .say_hash("data", decrypt.data),
        Request::DeriveKey(derive) => lines
            .say("key", derive.key)
            .say_derivation(&derive.mechanism)
            .say("algorithm", format!("{:?}", derive.algorithm))
            .say_template(&derive.template),
        // `Debug` shows every argument but secrets. One with an idempotency key would never be found again: safe, and
        // noticed at once.
        other => lines.say("arguments", format!("{other:?}")),
    };
    lines.0
}

struct Lines(String);

impl Lines {
    fn say(&mut self, name: &str, value: impl core::fmt::Display) -> &mut Self {
        self.0.push_str(&format!("{name}: {value}\n"));
        self
    }

    /// What `sha256sum` prints of a file with these bytes.
    fn say_hash(&mut self, name: &str, bytes: &[u8]) -> &mut Self {
        self.say(&format!("{name}-sha256"), HEXLOWER.encode(&sha256(bytes)))
    }

    fn say_cipher(&mut self, mechanism: &CipherMechanism<'_>, iv: &[u8]) -> &mut Self {
        self.say("mechanism", mechanism).say("iv", HEXLOWER.encode(iv));
        match mechanism {
            CipherMechanism::AesGcm { aad } => self.say_hash("aad", aad),
            CipherMechanism::RsaOaep { label, .. } => self.say_hash("label", label),
            CipherMechanism::AesEcb
            | CipherMechanism::AesCtr
            | CipherMechanism::AesCbc
            | CipherMechanism::AesCbcPad
            | CipherMechanism::RsaPkcs1 => self,
        }
    }

    fn say_derivation(&mut self, mechanism: &DeriveMechanism<'_>) -> &mut Self {
        self.say("mechanism", mechanism);
        match mechanism {
            DeriveMechanism::Ecdh { peer } => self.say_hash("peer", peer),
            DeriveMechanism::EcdhX963 { peer, info, .. } => {
                self.say_hash("peer", peer).say_hash("info", info)
            }
            DeriveMechanism::CounterKdf { fixed_input, .. } => self.say_hash("fixed-input", fixed_input),
            DeriveMechanism::Hkdf { salt, info, .. } => self.say_hash("salt", salt).say_hash("info", info),
        }
    }

    fn say_template(&mut self, template: &KeyTemplate) -> &mut Self {
        let KeyTemplate { label, attributes, quorum_management, quorum_usage, .. } = template;
        let KeyTemplate { wrap_template, unwrap_template, share_with, .. } = template;
        let sharees: Vec<_> = share_with.iter().map(keycore_wire::UserName::as_str).collect();
        self.say("new-label", label)
            .say("new-attributes", attributes)
            .say("new-quorum", format!("{quorum_management} to change, {quorum_usage} to use"))
            .say("new-wrap-template", format!("{wrap_template:?}"))
            .say("new-unwrap-template", format!("{unwrap_template:?}"))
            .say("new-shares", sharees.join(", "))
    }
}
