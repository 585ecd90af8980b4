//! An SSH agent with one hardware key, of the kind that a token holds. Its signatures say whether it was touched.
//!
//! Formats: PROTOCOL.u2f and draft-ietf-sshm-ssh-agent.

use std::path::Path;
use std::sync::Arc;

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixListener;

use crate::tasks::Tasks;

const APPLICATION: &str = "ssh:";

/// What signatures say of whoever holds the token: nothing; that it was touched; that a PIN was given as well.
pub const UNTOUCHED: u8 = 0;
pub const TOUCHED: u8 = 1;
pub const VERIFIED: u8 = 4;

/// A key whose private half never leaves the token.
pub enum Token {
    Ed25519(Ed25519KeyPair),
    Ecdsa(EcdsaKeyPair),
}

impl Token {
    /// One of each kind.
    pub fn all() -> [Token; 2] {
        let ecdsa = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
        [Token::Ed25519(Ed25519KeyPair::generate().unwrap()), Token::Ecdsa(ecdsa)]
    }

    pub fn kind(&self) -> &'static str {
        match self {
            Token::Ed25519(_) => "sk-ssh-ed25519@openssh.com",
            Token::Ecdsa(_) => "sk-ecdsa-sha2-nistp256@openssh.com",
        }
    }

    /// Listens at this path; the public key, as in `authorized_keys`.
    pub fn serve(self, socket: &Path, tasks: &Tasks, flags: u8) -> String {
        let blob = self.public();
        let text = format!("{} {}", self.kind(), BASE64_STANDARD.encode(&blob));
        let listener = UnixListener::bind(socket).unwrap();
        let (token, tracked) = (Arc::new(self), tasks.clone());
        tasks.spawn(async move {
            while let Ok((mut client, _)) = listener.accept().await {
                let (token, blob) = (Arc::clone(&token), blob.clone());
                tracked.spawn(async move {
                    while let Ok(length) = client.read_u32().await {
                        let mut message = vec![0; length as usize];
                        client.read_exact(&mut message).await.unwrap();
                        let answer = match message[0] {
                            // Which keys there are.
                            11 => [&[12, 0, 0, 0, 1][..], &string(&blob), &string(b"token")].concat(),
                            13 => {
                                let mut rest = &message[1..];
                                assert_eq!(take(&mut rest), blob);
                                [&[14][..], &string(&token.sign(take(&mut rest), flags))].concat()
                            }
                            _ => vec![5],
                        };
                        client.write_all(&string(&answer)).await.unwrap();
                    }
                });
            }
        });
        text
    }

    fn public(&self) -> Vec<u8> {
        let kind = string(self.kind().as_bytes());
        let key = match self {
            Token::Ed25519(pair) => string(pair.public_key().as_ref()),
            Token::Ecdsa(pair) => [string(b"nistp256"), string(pair.public_key().as_ref())].concat(),
        };
        [kind, key, string(APPLICATION.as_bytes())].concat()
    }

    fn sign(&self, message: &[u8], flags: u8) -> Vec<u8> {
        let trailer = [&[flags][..], &7_u32.to_be_bytes()].concat();
        let (application, message) = (digest(&SHA256, APPLICATION.as_bytes()), digest(&SHA256, message));
        let signed = [application.as_ref(), &trailer, message.as_ref()].concat();
        let signature = match self {
            Token::Ed25519(pair) => pair.sign(&signed).as_ref().to_vec(),
            Token::Ecdsa(pair) => {
                let pair = pair.sign(&SystemRandom::new(), &signed).unwrap();
                let (r, s) = pair.as_ref().split_at(32);
                [number(r), number(s)].concat()
            }
        };
        [string(self.kind().as_bytes()), string(&signature), trailer].concat()
    }
}

fn string(bytes: &[u8]) -> Vec<u8> {
    [&u32::try_from(bytes.len()).unwrap().to_be_bytes(), bytes].concat()
}

/// A positive number: without leading zeros, but for one that keeps its sign.
fn number(bytes: &[u8]) -> Vec<u8> {
    let digits: Vec<u8> = bytes.iter().copied().skip_while(|byte| *byte == 0).collect();
    let sign: &[u8] = if digits.first().is_some_and(|byte| byte & 0x80 != 0) { &[0] } else { &[] };
    string(&[sign, &digits].concat())
}

fn take<'a>(from: &mut &'a [u8]) -> &'a [u8] {
    let (length, rest) = from.split_at(4);
    let (taken, rest) = rest.split_at(u32::from_be_bytes(length.try_into().unwrap()) as usize);
    *from = rest;
    taken
}
