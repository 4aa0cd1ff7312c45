use std::borrow::Cow;

use keycore_store::StoreError;
use keycore_wire::{MAX_PASSWORD, MIN_PASSWORD, Refusal, RefusalCode};

/// A refusal, with what the peer need not know.
#[derive(Debug)]
pub(crate) struct Denial {
    /// What the peer gets.
    pub(crate) refusal: Refusal,
    /// The real reason, for the audit log; empty if the refusal says it all.
    pub(crate) reason: Cow<'static, str>,
}

impl Denial {
    pub(crate) fn new(code: RefusalCode, detail: impl Into<String>) -> Self {
        Self { refusal: Refusal::new(code, detail), reason: Cow::Borrowed("") }
    }

    /// The same refusal; the audit log says why in truth.
    pub(crate) fn because(self, reason: impl Into<Cow<'static, str>>) -> Self {
        Self { reason: reason.into(), ..self }
    }

    pub(crate) fn not_logged_in() -> Self {
        Self::new(RefusalCode::NotLoggedIn, "log in first")
    }

    pub(crate) fn permission() -> Self {
        Self::new(RefusalCode::PermissionDenied, "the role of this user does not allow the operation")
    }

    pub(crate) fn session_ended(reason: &'static str) -> Self {
        Self::new(RefusalCode::SessionEnded, "the session ended; log in again").because(reason)
    }

    pub(crate) fn bad_credentials(reason: &'static str) -> Self {
        Self::new(RefusalCode::BadCredentials, "wrong user name or password").because(reason)
    }

    pub(crate) fn no_key(reason: impl Into<Cow<'static, str>>) -> Self {
        Self::new(RefusalCode::NotFound, "no such key").because(reason)
    }

    pub(crate) fn no_user() -> Self {
        Self::new(RefusalCode::NotFound, "no such user")
    }

    pub(crate) fn password_length() -> Self {
        Self::new(
            RefusalCode::InvalidPassword,
            format!("a password is UTF-8 text of {MIN_PASSWORD} to {MAX_PASSWORD} bytes"),
        )
    }

    pub(crate) fn malformed(detail: impl Into<String>) -> Self {
        Self::new(RefusalCode::Malformed, detail)
    }

    pub(crate) fn cluster_state(detail: &'static str) -> Self {
        Self::new(RefusalCode::WrongClusterState, detail)
    }

    pub(crate) fn sealed() -> Self {
        Self::new(RefusalCode::Sealed, "this engine is sealed: hsm cluster unseal; or ask another one")
    }

    pub(crate) fn zeroized() -> Self {
        let detail = "the cluster was zeroized; this engine is about to start anew";
        Self::new(RefusalCode::ShuttingDown, detail)
    }

    /// The store did not do it; the audit log says what happened.
    pub(crate) fn store(error: &impl core::fmt::Display) -> Self {
        Self::new(RefusalCode::StoreUnavailable, "the engine's store can't be used; its audit log says more")
            .because(error.to_string())
    }

    /// A self-test of this engine failed. The reason is the test's name, so that whoever carries the denial on knows it.
    pub(crate) fn self_test_failed(test: &str) -> Self {
        let detail = format!("this engine stopped because a self-test failed: {test}");
        Self::new(RefusalCode::SelfTestFailed, detail).because(test.to_owned())
    }

    /// The self-test whose failure it is.
    pub(crate) fn failed_self_test(&self) -> Option<&str> {
        (self.refusal.code == RefusalCode::SelfTestFailed).then_some(&*self.reason)
    }

    /// The engine is at fault.
    pub(crate) fn internal(reason: impl Into<Cow<'static, str>>) -> Self {
        Self::new(RefusalCode::Internal, "a fault of the engine; its audit log says more").because(reason)
    }
}

impl From<StoreError> for Denial {
    fn from(error: StoreError) -> Self {
        Self::store(&error)
    }
}

impl From<aws_lc_rs::error::Unspecified> for Denial {
    fn from(_: aws_lc_rs::error::Unspecified) -> Self {
        Self::internal("the cryptographic library failed")
    }
}
