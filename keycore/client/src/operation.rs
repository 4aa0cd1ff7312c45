//! What the drivers need to know of an operation beside its codec.

use keycore_wire::{
    ActivateCluster, ChangeUnseal, ClusterInfo, ConfirmCustodians, Decrypt, Digest, Encrypt, FindKey,
    ImportKey, ListKeys, Login, LoginChallenge, Operation, Ping, PublicKey, QuorumPropose, Random,
    RefusalCode, Repeat, Resume, Sign, SignData, TlsSign, TlsSignTimed, UnsealCluster, UserChangePassword,
    UserCreate, UserList, UserRegisterKey, VerifyData,
};

/// An operation without its content.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Traits {
    /// Its name, for errors.
    pub(crate) name: &'static str,
    /// May be sent again when its answer was lost.
    pub(crate) repeatable: bool,
    /// Answered within milliseconds by an engine in good health, so that silence means something and a second
    /// request is cheap: it is hedged. Key generation, logins and changes are not.
    pub(crate) quick: bool,
    /// The request holds a secret: its buffers are wiped.
    pub(crate) secret: bool,
}

impl Traits {
    /// Those of `T`.
    pub(crate) const fn of<T: Operation>() -> Self {
        Self {
            name: T::NAME,
            repeatable: matches!(T::REPEAT, Repeat::Safe),
            quick: matches!(
                T::OPCODE,
                <TlsSign<'_> as Operation>::OPCODE
                    | <TlsSignTimed<'_> as Operation>::OPCODE
                    | <Sign<'_> as Operation>::OPCODE
                    | Random::OPCODE
                    | <SignData<'_> as Operation>::OPCODE
                    | <VerifyData<'_> as Operation>::OPCODE
                    | <Encrypt<'_> as Operation>::OPCODE
                    | <Decrypt<'_> as Operation>::OPCODE
                    | <Digest<'_> as Operation>::OPCODE
                    | FindKey::OPCODE
                    | PublicKey::OPCODE
                    | ListKeys::OPCODE
                    | UserList::OPCODE
                    | ClusterInfo::OPCODE
                    | Ping::OPCODE
            ),
            secret: matches!(
                T::OPCODE,
                Login::OPCODE
                    | Resume::OPCODE
                    | ImportKey::OPCODE
                    | <Encrypt<'_> as Operation>::OPCODE
                    | <Decrypt<'_> as Operation>::OPCODE
                    | UserCreate::OPCODE
                    | UserChangePassword::OPCODE
                    | LoginChallenge::OPCODE
                    | UserRegisterKey::OPCODE
                    | QuorumPropose::OPCODE
                    | ActivateCluster::OPCODE
                    | UnsealCluster::OPCODE
                    | ChangeUnseal::OPCODE
                    | ConfirmCustodians::OPCODE
            ),
        }
    }

    /// Whether this refusal leaves it possible to ask again without doing something twice.
    pub(crate) fn may_retry_after(self, code: RefusalCode) -> bool {
        let surely_not_done = matches!(
            code,
            RefusalCode::TooManyInFlight
                | RefusalCode::NotLoggedIn
                | RefusalCode::SessionEnded
                | RefusalCode::Overloaded
                | RefusalCode::ShuttingDown
                | RefusalCode::Sealed
        );
        code.is_worth_retrying() && (self.repeatable || surely_not_done)
    }
}

/// Whether the connection has to log in again before it is asked anything else.
pub(crate) fn ends_the_session(code: RefusalCode) -> bool {
    matches!(code, RefusalCode::NotLoggedIn | RefusalCode::SessionEnded)
}
