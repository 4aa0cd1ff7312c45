//! One connection with many requests in flight, made to cost as little as possible on the client's side.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use keycore_wire::{
    FindKey, Hello, KeySelector, Operation, ReplyError, Resume, SignatureScheme, SpkiSha256, TlsSign,
    TlsSignTimed, decode_reply, encode_request, frame,
};

use crate::{Algorithm, Engine, Outcome, cluster};

/// A logged-in connection, and the request that is sent on it again and again.
pub(crate) struct Pipeline {
    stream: UnixStream,
    request: Vec<u8>,
    next_id: u32,
    inbox: Vec<u8>,
    outbox: Vec<u8>,
    timed: bool,
}

impl Pipeline {
    /// Connects, and logs in as the crypto user.
    pub(crate) fn open(engine: &Engine) -> Outcome<Self> {
        let token = cluster::token(engine)?;
        let stream = UnixStream::connect(&engine.socket)?;
        let (request, inbox, outbox) = (Vec::new(), Vec::new(), Vec::new());
        let mut pipeline = Self { stream, request, next_id: 0, inbox, outbox, timed: false };
        pipeline.ask(&Hello::new("hsm-bench-signatures"))?;
        pipeline.ask(&Resume { token })?;
        Ok(pipeline)
    }

    /// Asks what each signature took, too, as the proxy does.
    pub(crate) fn timed(mut self) -> Self {
        self.timed = true;
        self
    }

    /// Signs with the key of this label from now on, and does so once.
    pub(crate) fn select(&mut self, label: &str, algorithm: Algorithm) -> Outcome<()> {
        let key = self
            .ask(&FindKey { key: KeySelector::Label(label.parse()?) })?
            .spki_sha256
            .ok_or("not a key pair")?;
        let scheme = match algorithm {
            Algorithm::P256 => SignatureScheme::EcdsaP256Sha256,
            Algorithm::Rsa2048 | Algorithm::Rsa4096 => SignatureScheme::RsaPssSha256,
        };
        self.request.clear();
        let sign = TlsSign { key, scheme, site: "www.example.com", message: &handshake() };
        if self.timed {
            encode_request(&TlsSignTimed(sign), &mut self.request)?;
        } else {
            encode_request(&sign, &mut self.request)?;
        }
        self.one()
    }

    /// One signature with the P-256 key of this public key.
    pub(crate) fn sign_with(&mut self, key: SpkiSha256) -> Outcome<()> {
        self.request.clear();
        let (scheme, site) = (SignatureScheme::EcdsaP256Sha256, "www.example.com");
        encode_request(&TlsSign { key, scheme, site, message: &handshake() }, &mut self.request)?;
        self.one()
    }

    /// One signature, from the request to the decoded reply.
    pub(crate) fn one(&mut self) -> Outcome<()> {
        self.queue()?;
        self.flush()?;
        while self.take_replies()? == 0 {
            self.fill()?;
        }
        Ok(())
    }

    /// Keeps `in_flight` requests under way for a time, and waits for the last of them. How many were answered.
    pub(crate) fn run_for(&mut self, time: Duration, in_flight: u32) -> Outcome<u64> {
        let end = Instant::now() + time;
        let (mut open, mut answered) = (0, 0);
        loop {
            if Instant::now() < end {
                while open < in_flight {
                    self.queue()?;
                    open += 1;
                }
                self.flush()?;
            } else if open == 0 {
                return Ok(answered);
            }
            self.fill()?;
            let replies = self.take_replies()?;
            open -= replies;
            answered += u64::from(replies);
        }
    }

    /// Sends any request and waits for its reply; nothing else may be under way.
    fn ask<T: Operation>(&mut self, operation: &T) -> Outcome<T::Reply> {
        let id = self.next_id();
        frame::append(&mut self.outbox, id, |body| encode_request(operation, body))?;
        self.flush()?;
        loop {
            if let Some((frame, length)) = frame::split(&self.inbox, frame::MAX_FRAME)? {
                let reply = decode_reply::<T>(frame.body);
                self.inbox.drain(..length);
                return Ok(reply?);
            }
            self.fill()?;
        }
    }

    fn queue(&mut self) -> Outcome<()> {
        let id = self.next_id();
        let request = &self.request;
        frame::append(&mut self.outbox, id, |body| {
            body.extend_from_slice(request);
            Ok::<_, ReplyError>(())
        })?;
        Ok(())
    }

    fn flush(&mut self) -> Outcome<()> {
        self.stream.write_all(&self.outbox)?;
        self.outbox.clear();
        Ok(())
    }

    fn fill(&mut self) -> Outcome<()> {
        let mut buffer = [0; 64 * 1024];
        let length = self.stream.read(&mut buffer)?;
        if length == 0 {
            return Err("the engine closed the connection".into());
        }
        self.inbox.extend_from_slice(&buffer[..length]);
        Ok(())
    }

    /// Takes the replies that are there; each must be a signature.
    fn take_replies(&mut self) -> Outcome<u32> {
        let (mut taken, mut at) = (0, 0);
        while let Some((frame, length)) = frame::split(&self.inbox[at..], frame::MAX_FRAME)? {
            if self.timed {
                decode_reply::<TlsSignTimed<'_>>(frame.body)?;
            } else {
                decode_reply::<TlsSign<'_>>(frame.body)?;
            }
            at += length;
            taken += 1;
        }
        self.inbox.drain(..at);
        Ok(taken)
    }

    fn next_id(&mut self) -> u32 {
        self.next_id = self.next_id.wrapping_add(1);
        self.next_id
    }
}

/// The content of a TLS 1.3 server's CertificateVerify with a SHA-256 transcript (RFC 8446, section 4.4.3).
pub(crate) fn handshake() -> [u8; 130] {
    let mut message = [b' '; 130];
    message[64..98].copy_from_slice(b"TLS 1.3, server CertificateVerify\0");
    message[98..].fill(0xab);
    message
}
