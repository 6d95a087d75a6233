//! `oomlint lock` against a hub on this computer that speaks the API of the real one, and does everything wrong
//! that servers do. No test sleeps: waiting is written down instead.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod gguf;
mod hub;
mod lock;
mod program;
mod server;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use oomlint::hub::{Access, Clock, Hub, Token};
use server::Server;

/// A clock that only writes down how long it was asked to wait.
#[derive(Debug, Clone, Default)]
struct Written(Arc<Mutex<Vec<Duration>>>);

impl Clock for Written {
    fn sleep(&self, time: Duration) {
        self.0.lock().unwrap().push(time);
    }
}

impl Written {
    /// The pauses so far in milliseconds.
    fn pauses(&self) -> Vec<u128> {
        self.0.lock().unwrap().iter().map(Duration::as_millis).collect()
    }
}

/// A token that must never be seen again.
const TOKEN: &str = "hf_TheSecretOfThisTest";

/// A client of the server, with the token.
fn client(server: &Server) -> (Hub, Written) {
    let clock = Written::default();
    let access = Access::new(&server.endpoint(), Token::new(TOKEN).unwrap()).unwrap();
    (Hub::new(access, clock.clone()).unwrap(), clock)
}

/// A model of two layers whose weights take 1,184 bytes.
const CONFIG: &str = r#"{"architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 8,
 "intermediate_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 1,
 "vocab_size": 10, "max_position_embeddings": 4096, "torch_dtype": "bfloat16", "bos_token_id": 1}"#;
