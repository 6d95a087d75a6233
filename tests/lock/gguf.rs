//! GGUF headers for the server to give out, with a vocabulary long enough to need several ranges.

use super::server::File;

fn text(bytes: &mut Vec<u8>, text: &str) {
    bytes.extend((text.len() as u64).to_le_bytes());
    bytes.extend(text.as_bytes());
}

fn number(bytes: &mut Vec<u8>, key: &str, value: u32) {
    text(bytes, key);
    bytes.extend(4u32.to_le_bytes());
    bytes.extend(value.to_le_bytes());
}

/// A model of two layers and `tokens` tokens, with one F16 tensor of 64 x `rows`.
pub(crate) fn file(tokens: u64, rows: u64) -> File {
    let mut bytes = b"GGUF".to_vec();
    bytes.extend(3u32.to_le_bytes());
    bytes.extend(1u64.to_le_bytes());
    bytes.extend(8u64.to_le_bytes());
    text(&mut bytes, "general.architecture");
    bytes.extend(8u32.to_le_bytes());
    text(&mut bytes, "llama");
    for (key, value) in [
        ("llama.block_count", 2),
        ("llama.embedding_length", 64),
        ("llama.attention.head_count", 4),
        ("llama.attention.head_count_kv", 2),
        ("llama.context_length", 4096),
    ] {
        number(&mut bytes, key, value);
    }
    text(&mut bytes, "tokenizer.chat_template");
    bytes.extend(8u32.to_le_bytes());
    text(&mut bytes, "a template that no lock needs");
    text(&mut bytes, "tokenizer.ggml.tokens");
    bytes.extend(9u32.to_le_bytes());
    bytes.extend(8u32.to_le_bytes());
    bytes.extend(tokens.to_le_bytes());
    for token in 0..tokens {
        text(&mut bytes, &format!("token {token}"));
    }
    text(&mut bytes, "token_embd.weight");
    bytes.extend(2u32.to_le_bytes());
    bytes.extend(64u64.to_le_bytes());
    bytes.extend(rows.to_le_bytes());
    bytes.extend(1u32.to_le_bytes());
    bytes.extend(0u64.to_le_bytes());
    let start = (bytes.len() as u64).next_multiple_of(32);
    File::beginning(bytes, start + 64 * rows * 2)
}
