use perpacket_udp::MessageOptions;
use perpacket_webrtc::PacketClass;

/// Those that the example sends.
const CLASSES: [PacketClass; 4] = [
    PacketClass::Stun,
    PacketClass::Dtls,
    PacketClass::Srtp,
    PacketClass::Srtcp,
];

/// Reads `srtp:ttl=10,df=1,tos=184`, for clap.
///
/// # Errors
/// A sentence for the user.
pub fn parse_set(text: &str) -> Result<(PacketClass, MessageOptions), String> {
    const FORM: &str = "expected CLASS:ttl=N,df=0|1,tos=N with at least one of the three";
    let (class, fields) = text.split_once(':').ok_or(FORM)?;
    let Some(class) = CLASSES.into_iter().find(|known| known.as_str() == class) else {
        return Err(format!(
            "unknown class {class:?}: expected stun, dtls, srtp or srtcp"
        ));
    };
    let mut options = MessageOptions::default();
    for field in fields.split(',') {
        let (key, value) = field.split_once('=').ok_or(FORM)?;
        let twice = match key {
            "ttl" => options.ttl.replace(parse_byte(value)?).is_some(),
            "tos" => options.tos.replace(parse_byte(value)?).is_some(),
            "df" => {
                let df_bit = match value {
                    "0" => false,
                    "1" => true,
                    _ => return Err(format!("df is 0 or 1, not {value:?}")),
                };
                options.df_bit.replace(df_bit).is_some()
            }
            _ => return Err(format!("unknown field {key:?}: {FORM}")),
        };
        if twice {
            return Err(format!("{key} is given twice"));
        }
    }
    options.validate().map_err(|error| error.to_string())?;
    Ok((class, options))
}

/// A number 0..=255, decimal or with 0x.
fn parse_byte(text: &str) -> Result<u8, String> {
    let number = match text.strip_prefix("0x") {
        Some(digits) => u8::from_str_radix(digits, 16),
        None => text.parse(),
    };
    number.map_err(|_| format!("{text:?} is not a number 0..=255"))
}
