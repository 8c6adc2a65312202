//! What proves to the active node that another node has forwarded a request.

use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;
use uuid::Uuid;

use super::{hex, link_key::LinkKey};

/// The key with which nodes prove to each other what they are: the one that signs links to pictures, which all nodes
/// with the same database and identity have. A proof is valid only from one run of a node to one run of another.
#[derive(Debug, Clone)]
pub struct NodeKey(LinkKey);

impl NodeKey {
    /// Uses this key.
    pub fn new(key: LinkKey) -> Self {
        Self(key)
    }

    /// Returns what proves to the run `to` of the active node that the run `from` of a node has sent it a request.
    pub fn prove(&self, from: Uuid, to: Uuid) -> String {
        let mut proof = format!("{from}.");
        hex::push(&mut proof, &self.mac(from, to).finalize().into_bytes());
        proof
    }

    /// Returns which run of a node has made this proof; `None` if it was not made with this key for the run `to`.
    /// Compares in constant time.
    pub fn verify(&self, proof: &str, to: Uuid) -> Option<Uuid> {
        let (from, code) = proof.split_once('.')?;
        let from = Uuid::parse_str(from).ok()?;
        let code = hex::read(code)?;
        self.mac(from, to).verify(&code.into()).is_ok().then_some(from)
    }

    /// The text differs from that of every link.
    fn mac(&self, from: Uuid, to: Uuid) -> Hmac<Sha256> {
        let mut mac =
            Hmac::<Sha256>::new_from_slice(self.0.expose()).expect("HMAC accepts keys of any length");
        for part in [b"node\n".as_slice(), from.as_bytes(), to.as_bytes()] {
            mac.update(part);
        }
        mac
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proof_is_valid_only_with_the_same_key_and_for_the_same_runs() {
        let key = NodeKey::new(LinkKey::generate().unwrap());
        let [from, to, other] = [1, 2, 3].map(Uuid::from_u128);
        let proof = key.prove(from, to);
        assert_eq!(key.verify(&proof, to), Some(from));
        assert_eq!(key.clone().verify(&proof.to_uppercase(), to), Some(from));
        assert_eq!(key.verify(&proof, other), None, "another run of the active node");
        let stolen = proof.replacen(&from.to_string(), &other.to_string(), 1);
        assert_eq!(key.verify(&stolen, to), None, "another run of the standby");
        assert_eq!(NodeKey::new(LinkKey::generate().unwrap()).verify(&proof, to), None);
        for invalid in ["", "-", &from.to_string(), &format!("{from}."), &format!("{from}.00"), &proof[1..]] {
            assert_eq!(key.verify(invalid, to), None, "{invalid}");
        }
        assert_eq!(key.verify(&key.prove(to, from), to), None, "the other way round");
    }
}
