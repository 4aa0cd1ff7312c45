use p256::pkcs8::{DecodePrivateKey, EncodePrivateKey, LineEnding};
use p256::{NistP256, elliptic_curve::SecretKey};
use p384::NistP384;
use rsa::RsaPrivateKey;
use rsa::pkcs1::EncodeRsaPrivateKey;
use rsa::rand_core::OsRng;

use super::*;

fn pem(label: &str, der: &[u8]) -> String {
    hsm_certs::to_pem(label, der)
}

fn p256() -> SecretKey<NistP256> {
    SecretKey::random(&mut OsRng)
}

#[test]
fn pkcs8_is_taken_as_it_is() {
    let key = p256();
    let file = key.to_pkcs8_pem(LineEnding::LF).unwrap();
    assert_eq!(convert(file.as_bytes()).unwrap().expose(), key.to_pkcs8_der().unwrap().as_bytes());
    let windows = file.replace('\n', "\r\n");
    assert!(convert(windows.as_bytes()).is_ok());
}

#[test]
fn older_ec_files_become_pkcs8_of_the_same_key() {
    // The curve, as openssl writes it; the crates leave it out.
    let small = p256();
    let large = SecretKey::<NistP384>::random(&mut OsRng);
    let small_sec1 = sec1(&small.to_bytes(), "1.2.840.10045.3.1.7");
    let large_sec1 = sec1(&large.to_bytes(), "1.3.132.0.34");
    let parameters = pem("EC PARAMETERS", &[6, 1, 0]);
    let file = format!("{parameters}{}", pem("EC PRIVATE KEY", &small_sec1));
    let read = convert(file.as_bytes()).unwrap();
    assert_eq!(SecretKey::from_pkcs8_der(read.expose()).unwrap(), small);
    let read = convert(pem("EC PRIVATE KEY", &large_sec1).as_bytes()).unwrap();
    assert_eq!(SecretKey::<NistP384>::from_pkcs8_der(read.expose()).unwrap(), large);
}

#[test]
fn an_ec_file_without_its_curve_is_refused() {
    let bare = p256().to_sec1_der().unwrap();
    let named = named_curve(&bare).unwrap();
    if named.is_none() {
        let refused = convert(pem("EC PRIVATE KEY", &bare).as_bytes()).unwrap_err();
        assert!(refused.advice.unwrap().contains("openssl pkcs8"));
    }
    assert_eq!(named_curve(&[0x30, 0x05, 2, 1, 1, 4, 0]).unwrap(), None);
}

#[test]
fn older_rsa_files_become_pkcs8_of_the_same_key() {
    let key = RsaPrivateKey::new(&mut OsRng, 1024).unwrap(); // small, to be quick; the engine would refuse it
    let file = key.to_pkcs1_pem(LineEnding::LF).unwrap();
    let read = convert(file.as_bytes()).unwrap();
    assert_eq!(read.expose(), key.to_pkcs8_der().unwrap().as_bytes());
    assert_eq!(RsaPrivateKey::from_pkcs8_der(read.expose()).unwrap(), key);
}

#[test]
fn encrypted_keys_are_refused_with_the_way_out() {
    let legacy = "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,00\n\nAAAA\n\
                  -----END RSA PRIVATE KEY-----\n";
    for file in [pem("ENCRYPTED PRIVATE KEY", b"x"), legacy.to_owned()] {
        let refused = convert(file.as_bytes()).unwrap_err();
        assert!(refused.problem.contains("encrypted"));
        assert!(refused.advice.unwrap().contains("openssl pkcs8 -topk8 -nocrypt -in FILE"));
    }
}

#[test]
fn what_holds_no_single_key_is_refused() {
    let key = p256().to_pkcs8_pem(LineEnding::LF).unwrap();
    for (file, problem) in [
        (String::new(), "no private key"),
        (pem("CERTIFICATE", b"x"), "no private key"),
        (format!("{}{}", *key, *key), "several"),
        (key.replace("-----END", "----END"), "no private key"),
        (key.replacen("MIG", "MI!", 1), "damaged"),
        (pem("EC PRIVATE KEY", b"junk"), "damaged"),
        (pem("PRIVATE KEY", &[0; MAX_PKCS8 + 1]), "bytes"),
        (pem("OPENSSH PRIVATE KEY", b"x"), "OpenSSH"),
    ] {
        let refused = convert(file.as_bytes()).unwrap_err();
        assert!(refused.problem.contains(problem), "{}: {}", problem, refused.problem);
    }
    assert!(convert(&[0x30, 0x82, 0xff]).unwrap_err().advice.unwrap().contains("DER"));
}

#[test]
fn a_failure_names_the_file() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("key.pem");
    std::fs::write(&path, pem("ENCRYPTED PRIVATE KEY", b"x")).unwrap();
    let text = read(&path).unwrap_err().text();
    assert!(text.contains(&format!("-in {}", path.display())), "{text}");
}

/// An ECPrivateKey that names its curve and leaves out the public key.
fn sec1(scalar: &[u8], curve: &str) -> Vec<u8> {
    let curve = ObjectIdentifier::new_unwrap(curve);
    let oid = curve.as_bytes();
    let byte = |length: usize| u8::try_from(length).unwrap();
    let mut body = vec![2, 1, 1, 4, byte(scalar.len())];
    body.extend_from_slice(scalar);
    body.extend([0xa0, byte(oid.len() + 2), 6, byte(oid.len())]);
    body.extend_from_slice(oid);
    let mut der = vec![0x30, byte(body.len())];
    der.extend(body);
    der
}
