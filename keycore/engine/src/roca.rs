//! The fingerprint of RSA keys that can be factored: CVE-2017-15361, "ROCA".
//!
//! Infineon's library made primes p = k·M + (65537^a mod M), M the product of the first primes. So modulo each of those
//! primes such a p, and a product of two of them, is a power of 65537 (Nemec, Sys, Svenda, Klinec, Matyas: The Return of
//! Coppersmith's Attack, CCS 2017, section 3). Another modulus is so modulo all of the primes below with probability 2^-27.

/// Those of the first 39 primes but 2; modulo some of them every number is a power of 65537, which costs little.
const PRIMES: [u32; 38] = [
    3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37, 41, 43, 47, 53, 59, 61, 67, 71, 73, 79, 83, 89, 97, 101, 103,
    107, 109, 113, 127, 131, 137, 139, 149, 151, 157, 163, 167,
];

/// Whether a modulus, big-endian, has the fingerprint.
pub(crate) fn has_fingerprint(modulus: &[u8]) -> bool {
    !modulus.is_empty() && PRIMES.iter().all(|&prime| is_power(remainder(modulus, prime), prime))
}

fn remainder(number: &[u8], prime: u32) -> u32 {
    number.iter().fold(0, |remainder, &byte| (remainder * 256 + u32::from(byte)) % prime)
}

/// Whether 65537 to some power is `residue` modulo `prime`.
fn is_power(residue: u32, prime: u32) -> bool {
    let generator = 65_537 % prime;
    let powers = core::iter::successors(Some(1), |power| Some(power * generator % prime));
    powers.take(usize::try_from(prime).unwrap_or(usize::MAX)).any(|power| power == residue)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Powers of 65537 are powers of it modulo every prime.
    fn power(exponent: usize) -> Vec<u8> {
        let mut number = vec![1];
        for _ in 0..exponent {
            // Times 65537 is the number and the number two bytes further left.
            let shifted: Vec<u8> = number.iter().copied().chain([0, 0]).collect();
            let (mut sum, mut carry) = (Vec::new(), 0);
            for at in 0..shifted.len() {
                let low = number.iter().rev().nth(at).copied().unwrap_or(0);
                let total = u16::from(shifted[shifted.len() - 1 - at]) + u16::from(low) + carry;
                sum.push(total.to_le_bytes()[0]);
                carry = total >> 8;
            }
            sum.extend((carry > 0).then_some(1));
            number = sum.into_iter().rev().collect();
        }
        number
    }

    #[test]
    fn the_form_is_found_and_a_number_beside_it_is_not() {
        for exponent in [1, 2, 64, 127] {
            let mut number = power(exponent);
            assert!(has_fingerprint(&number), "{exponent}");
            *number.last_mut().unwrap() ^= 2;
            assert!(!has_fingerprint(&number), "{exponent}");
        }
        assert!(!has_fingerprint(&[]));
        assert!(!has_fingerprint(&[0]));
    }

    #[test]
    fn the_primes_tell_27_bits() {
        let share = |prime: u32| {
            let powers = (1..prime).filter(|residue| is_power(*residue, prime)).count();
            f64::from(prime - 1) / f64::from(u32::try_from(powers).unwrap())
        };
        let bits: f64 = PRIMES.iter().map(|prime| share(*prime).log2()).sum();
        assert!((27.0..28.0).contains(&bits), "{bits}");
    }
}
