//! One file per operation: the request's content, its reply, its limits.

pub(crate) mod audit;
pub(crate) mod backup;
pub(crate) mod cluster;
pub(crate) mod crypto;
pub(crate) mod delete_key;
pub(crate) mod derive_wrap;
pub(crate) mod find_key;
pub(crate) mod generate_key;
pub(crate) mod hello;
pub(crate) mod import_key;
pub(crate) mod list_keys;
pub(crate) mod login;
pub(crate) mod ping;
pub(crate) mod public_key;
pub(crate) mod quorum;
pub(crate) mod random;
pub(crate) mod rotate_key;
pub(crate) mod self_test;
pub(crate) mod set_attribute;
pub(crate) mod share_key;
pub(crate) mod sign;
pub(crate) mod tls_sign;
pub(crate) mod unseal;
pub(crate) mod user;
pub(crate) mod zeroize_cluster;
pub(crate) mod zeroize_keys;
