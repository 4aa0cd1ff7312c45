//! A real engine, and a crypto user who brings the vectors' keys in.

use std::collections::HashMap;
use std::time::Duration;

use aws_lc_rs::{hmac, rand};
use keycore_client::blocking::Client;
use keycore_client::{Endpoint, Error, Identity};
use keycore_wire::{
    ActivateCluster, Attributes, CipherMechanism, Decrypt, Hash, IdempotencyKey, ImportKey,
    InitializeCluster, KeyId, KeyTemplate, Operation, PlainKey, RefusalCode, Role, Secret, SignData,
    SignMechanism, Signer, UserCreate, VerifyData,
};

use super::table::Verdict;
use crate::fixture::Daemon;

const PASSWORD: &[u8] = b"correct horse battery";

/// The refusals that say that a vector is wrong.
const WRONG: [RefusalCode; 4] = [
    RefusalCode::WrongSignature,
    RefusalCode::DecryptionFailed,
    RefusalCode::WrongInput,
    RefusalCode::InvalidKey,
];

/// What a vector's key is.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Form {
    Pkcs8,
    Aes,
    Secret,
}

pub(super) struct Engine {
    client: Client,
    keys: HashMap<(Form, Attributes, Vec<u8>), Result<KeyId, RefusalCode>>,
    labels: usize,
    _daemon: Daemon,
}

impl Engine {
    pub(super) fn start() -> Self {
        let daemon = Daemon::start("replicas = 1\n");
        let endpoint = Endpoint::Unix(daemon.socket(0));
        let mut client = Client::connect(&[endpoint], Duration::from_secs(60)).unwrap();
        client.call(&InitializeCluster).unwrap();
        let password = || Secret::new(PASSWORD.to_vec());
        client.call(&ActivateCluster { admin: "root".parse().unwrap(), password: password() }).unwrap();
        client.login(&Identity::with_password("root".parse().unwrap(), password())).unwrap();
        let user = UserCreate {
            idempotency_key: fresh(),
            name: "web".parse().unwrap(),
            role: Role::CryptoUser,
            password: Some(password()),
            peer_uid: None,
        };
        client.call(&user).unwrap();
        client.login(&Identity::with_password("web".parse().unwrap(), password())).unwrap();
        Self { client, keys: HashMap::new(), labels: 0, _daemon: daemon }
    }

    /// The answer, or the code of the refusal.
    pub(super) fn call<T: Operation>(&mut self, operation: &T) -> Result<T::Reply, RefusalCode> {
        match self.client.call(operation) {
            Ok(reply) => Ok(reply),
            Err(Error::Refused(refusal)) => Err(refusal.code),
            Err(other) => panic!("{}: {other}", T::NAME),
        }
    }

    /// A template under a label that is not taken.
    pub(super) fn template(&mut self, usage: Attributes) -> KeyTemplate {
        self.labels += 1;
        KeyTemplate::new(format!("vector-{}", self.labels).parse().unwrap(), usage)
    }

    /// Brings a key in, once.
    pub(super) fn key(&mut self, form: Form, usage: Attributes, bytes: &[u8]) -> Result<KeyId, RefusalCode> {
        let name = (form, usage, bytes.to_vec());
        if let Some(known) = self.keys.get(&name) {
            return *known;
        }
        let secret = Secret::new(bytes.to_vec());
        let key = match form {
            Form::Pkcs8 => PlainKey::Pkcs8(secret),
            Form::Aes => PlainKey::Aes(secret),
            Form::Secret => PlainKey::GenericSecret(secret),
        };
        let template = self.template(usage);
        let made = self.call(&ImportKey { idempotency_key: fresh(), template, key }).map(|info| info.id);
        self.keys.insert(name, made);
        made
    }

    /// Whether a signature is right, in the engine's opinion.
    pub(super) fn verifies(
        &mut self,
        signer: Signer<'_>,
        mechanism: SignMechanism,
        data: &[u8],
        signature: &[u8],
    ) -> Result<(), RefusalCode> {
        self.call(&VerifyData { signer, mechanism, prehashed: false, data, signature }).map(|_| ())
    }

    pub(super) fn decrypt(
        &mut self,
        key: KeyId,
        mechanism: CipherMechanism<'_>,
        iv: &[u8],
        data: &[u8],
    ) -> Result<Vec<u8>, RefusalCode> {
        let plain = self.call(&Decrypt { key, mechanism, iv, data })?;
        Ok(plain.bytes.expose().to_vec())
    }

    /// Whether the engine's key `id` holds `bytes`: both make the same code.
    pub(super) fn holds(&mut self, id: KeyId, bytes: &[u8]) -> bool {
        let (mechanism, data) = (SignMechanism::Hmac(Hash::Sha256), &b"which key is it"[..]);
        let code = self.call(&SignData { key: id, mechanism, prehashed: false, data }).unwrap();
        code.bytes == hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, bytes), data).as_ref()
    }
}

/// A name for a request.
pub(super) fn fresh() -> IdempotencyKey {
    let mut key = [0; 16];
    rand::fill(&mut key).unwrap();
    IdempotencyKey(key)
}

/// Compares what a vector must give with what the engine gave.
pub(super) fn judge<T: PartialEq>(right: &T, valid: bool, given: Result<T, RefusalCode>) -> Verdict {
    match given {
        Ok(given) if valid => Verdict::of(given == *right, "another result"),
        Ok(_) => Verdict::Failed("an invalid vector was accepted".to_owned()),
        Err(code) if valid => Verdict::Failed(format!("a valid vector was refused: {code:?}")),
        Err(code) => Verdict::of(WRONG.contains(&code), &format!("refused with {code:?}")),
    }
}
