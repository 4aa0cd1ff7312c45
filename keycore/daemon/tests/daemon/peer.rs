//! A client with no manners: raw frames over the socket.

use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;

use keycore_wire::frame::{self, MAX_FRAME};
use keycore_wire::{
    Hello, HelloReply, Operation, Ping, RefusalCode, ReplyError, decode_reply, encode_request,
};

use crate::fixture::PATIENCE;

pub(crate) struct Peer {
    pub(crate) stream: UnixStream,
    received: Vec<u8>,
    next_id: u32,
}

impl Peer {
    pub(crate) fn connect(socket: &Path) -> io::Result<Self> {
        let stream = UnixStream::connect(socket)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        Ok(Self { stream, received: Vec::new(), next_id: 1 })
    }

    /// Connects and says hello.
    pub(crate) fn greet(mut self) -> Self {
        self.try_hello().unwrap();
        self
    }

    pub(crate) fn try_hello(&mut self) -> io::Result<HelloReply> {
        let id = self.send(&Hello::new("test"))?;
        let (answered, body) = self.receive()?.ok_or(ErrorKind::UnexpectedEof)?;
        assert_eq!(answered, id);
        decode_reply::<Hello<'_>>(&body).map_err(io::Error::other)
    }

    /// Sends a request; returns its id.
    pub(crate) fn send<T: Operation>(&mut self, operation: &T) -> io::Result<u32> {
        let id = self.next_id;
        self.next_id += 1;
        self.stream.write_all(&request(id, operation))?;
        Ok(id)
    }

    /// The next reply, or `None` if the engine has closed the connection.
    pub(crate) fn receive(&mut self) -> io::Result<Option<(u32, Vec<u8>)>> {
        loop {
            if let Some((frame, took)) = frame::split(&self.received, MAX_FRAME).map_err(io::Error::other)? {
                let reply = (frame.id, frame.body.to_vec());
                self.received.drain(..took);
                return Ok(Some(reply));
            }
            let mut chunk = [0; 16 * 1024];
            match self.stream.read(&mut chunk) {
                Ok(0) => return Ok(None),
                Ok(count) => self.received.extend_from_slice(&chunk[..count]),
                Err(error) if error.kind() == ErrorKind::ConnectionReset => return Ok(None),
                Err(error) => return Err(error),
            }
        }
    }

    /// Asks and waits for the answer to just that.
    pub(crate) fn call<T: Operation>(&mut self, operation: &T) -> Result<T::Reply, ReplyError> {
        let id = self.send(operation).unwrap();
        let (answered, body) = self.receive().unwrap().expect("an open connection");
        assert_eq!(answered, id, "the reply to another request");
        decode_reply::<T>(&body)
    }

    pub(crate) fn ping(&mut self) {
        self.call(&Ping).unwrap();
    }

    /// Whether the engine closes the connection, whatever it says before.
    pub(crate) fn gets_shown_the_door(mut self) -> bool {
        loop {
            match self.receive() {
                Ok(None) => return true,
                Ok(Some(_)) => {}
                Err(_) => return false,
            }
        }
    }

    pub(crate) fn expect_refusal(&mut self, expected: RefusalCode) {
        let (_, body) = self.receive().unwrap().expect("a refusal");
        match decode_reply::<Ping>(&body) {
            Err(ReplyError::Refused(refusal)) => assert_eq!(refusal.code, expected),
            other => panic!("expected a refusal, got {other:?}"),
        }
    }
}

/// The bytes of one request.
pub(crate) fn request<T: Operation>(id: u32, operation: &T) -> Vec<u8> {
    let mut bytes = Vec::new();
    frame::append(&mut bytes, id, |body| encode_request(operation, body)).unwrap();
    bytes
}

/// The bytes of a frame around any body.
pub(crate) fn framed(id: u32, body: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    frame::append::<()>(&mut bytes, id, |out| {
        out.extend_from_slice(body);
        Ok(())
    })
    .unwrap();
    bytes
}
