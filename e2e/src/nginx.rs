//! A server of Debian's nginx.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

use crate::address;
use crate::program::Program;

/// Starts one with its files in `directory`, and waits until it listens on `address`, as a `server` of its `http` block is to.
/// One process: whoever kills it leaves no worker behind.
///
/// # Panics
///
/// If it doesn't start.
pub fn nginx(program: &Path, directory: &Path, http: &str, address: SocketAddr) -> Program {
    let file = directory.join("nginx.conf");
    let text = format!(
        "daemon off;\nmaster_process off;\nerror_log stderr error;\npid {dir}/nginx.pid;\nevents {{}}\n\
         http {{\n access_log off;\n client_body_temp_path {dir}/body;\n proxy_temp_path {dir}/proxy;\n\
         fastcgi_temp_path {dir}/f;\n uwsgi_temp_path {dir}/u;\n scgi_temp_path {dir}/s;\n\
         {http} }}\n",
        dir = directory.display()
    );
    std::fs::write(&file, text).expect("a directory");
    let nginx = Program::start(Command::new(program).arg("-c").arg(&file).arg("-p").arg(directory));
    address::await_port("nginx", address);
    nginx
}
