//! A passkey's device for tests: makes keys and signs as an authenticator with a browser does.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair as _};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

/// User present and user verified.
pub const VERIFIED: u8 = 0x05;
/// User present, and nobody asked who that is.
pub const UNVERIFIED: u8 = 0x01;
/// An attested credential follows.
const WITH_KEY: u8 = 0x40;

/// A device with one key. A clone of it is what a thief would have.
#[derive(Debug, Clone)]
pub struct Device {
    /// Where its browser believes to be.
    pub origin: String,
    /// How often the key was used.
    pub counter: u32,
    /// What it says of its user.
    pub flags: u8,
    key: Vec<u8>,
    id: Vec<u8>,
    user: Value,
}

impl Device {
    /// A new one, whose browser is at `origin`.
    pub fn at(origin: &str) -> Self {
        let key =
            EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &SystemRandom::new())
                .expect("a key");
        let id = uuid::Uuid::new_v4().into_bytes().to_vec();
        Self {
            origin: origin.to_owned(),
            counter: 1,
            flags: VERIFIED,
            key: key.as_ref().to_vec(),
            id,
            user: Value::Null,
        }
    }

    fn pair(&self) -> EcdsaKeyPair {
        let (scheme, random) = (&ECDSA_P256_SHA256_ASN1_SIGNING, SystemRandom::new());
        EcdsaKeyPair::from_pkcs8(scheme, &self.key, &random).expect("the key")
    }

    fn client_data(&self, kind: &str, options: &Value) -> String {
        json!({
            "type": kind,
            "challenge": options["challenge"],
            "origin": self.origin,
            "crossOrigin": false,
        })
        .to_string()
    }

    fn data(&self, relying_party: &Value, flags: u8) -> Vec<u8> {
        let host = relying_party.as_str().expect("a relying party");
        let mut data = Sha256::digest(host).to_vec();
        data.push(flags);
        data.extend(self.counter.to_be_bytes());
        data
    }

    /// Answers `navigator.credentials.create`.
    pub fn create(&mut self, options: &Value) -> String {
        self.user = options["user"]["id"].clone();
        let mut data = self.data(&options["rp"]["id"], self.flags | WITH_KEY);
        data.extend([0; 16]);
        data.extend([0, u8::try_from(self.id.len()).expect("short")]);
        data.extend(&self.id);
        let pair = self.pair();
        let point = pair.public_key().as_ref();
        // COSE (RFC 9053): {1: 2, 3: -7, -1: 1, -2: x, -3: y}.
        data.extend([0xa5, 0x01, 0x02, 0x03, 0x26, 0x20, 0x01, 0x21, 0x58, 0x20]);
        data.extend(&point[1..33]);
        data.extend([0x22, 0x58, 0x20]);
        data.extend(&point[33..]);
        // CBOR: {"fmt": "none", "attStmt": {}, "authData": bytes}.
        let mut object = b"\xa3\x63fmt\x64none\x67attStmt\xa0\x68authData\x58".to_vec();
        object.push(u8::try_from(data.len()).expect("short"));
        object.extend(data);
        json!({
            "id": encode(&self.id), "rawId": encode(&self.id), "type": "public-key",
            "authenticatorAttachment": "platform", "clientExtensionResults": {},
            "response": {
                "clientDataJSON": encode(self.client_data("webauthn.create", options)),
                "attestationObject": encode(object),
                "transports": ["internal"],
            },
        })
        .to_string()
    }

    /// Answers `navigator.credentials.get`.
    pub fn get(&mut self, options: &Value) -> String {
        self.counter += 1;
        let client_data = self.client_data("webauthn.get", options);
        let data = self.data(&options["rpId"], self.flags);
        let signed = [&data[..], &Sha256::digest(&client_data)].concat();
        let signature = self
            .pair()
            .sign(&SystemRandom::new(), &signed)
            .expect("signs");
        json!({
            "id": encode(&self.id), "rawId": encode(&self.id), "type": "public-key",
            "authenticatorAttachment": "platform", "clientExtensionResults": {},
            "response": {
                "clientDataJSON": encode(client_data),
                "authenticatorData": encode(data),
                "signature": encode(signature),
                "userHandle": self.user,
            },
        })
        .to_string()
    }
}

fn encode(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}
