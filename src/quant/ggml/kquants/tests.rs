use super::*;

fn floats(path: &str) -> Vec<f32> {
    std::fs::read(path).unwrap().as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect()
}

#[test]
#[ignore]
fn all_vectors() {
    let dir = "/work/shared/vectors/ggml";
    let imatrix = floats(&format!("{dir}/imatrix.f32"));
    let mut count = 0;
    for (kind, name) in Kind::ALL.into_iter().zip(["q2_K", "q3_K", "q4_K", "q5_K", "q6_K"]) {
        for data in ["gauss", "edge", "bf16"] {
            let x = floats(&format!("{dir}/in_{data}.f32"));
            for (im, w) in [("none", None), ("imatrix", Some(&imatrix[..]))] {
                let want = std::fs::read(format!("{dir}/{name}.{data}.{im}.bin")).unwrap();
                let mut got = vec![0; want.len()];
                reference::encode(kind, 1024, &x, w, &mut got);
                let bad = got.chunks(kind.bytes()).zip(want.chunks(kind.bytes())).filter(|(a, b)| a != b).count();
                println!("{name} {data} {im}: {bad} of {} differ", want.len() / kind.bytes());
                count += bad;
                for level in lanes::Level::available() {
                    got.fill(0);
                    encode_at(level, kind, 1024, &x, w, &mut got);
                    let bad = got.chunks(kind.bytes()).zip(want.chunks(kind.bytes())).filter(|(a, b)| a != b).count();
                    println!("  {level:?}: {bad} differ");
                    count += bad;
                }
                if let Ok(deq) = std::fs::read(format!("{dir}/{name}.{data}.{im}.deq.f32")) {
                    let mut out = vec![0.0; x.len()];
                    decode(kind, &want, &mut out);
                    let bytes: Vec<u8> = out.iter().flat_map(|v| v.to_le_bytes()).collect();
                    println!("  decode {}", bytes == deq);
                    count += usize::from(bytes != deq);
                }
            }
        }
    }
    assert_eq!(count, 0);
}
