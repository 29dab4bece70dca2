// The names of the TOS byte: DSCPs by RFC 2474, 2597, 3246, 5865 and 8622, the ECN field by RFC 3168.

import { NONE } from "./format.js";

/** Every named code point, in groups as one looks for them. */
export const DSCP_GROUPS = [
  ["Best effort and below", [["CS0", 0, "best effort"], ["LE", 1, "lower effort"], ["CS1", 8, "class selector 1"]]],
  ["Real time", [["EF", 46, "expedited forwarding, voice"], ["VA", 44, "voice admit"]]],
  ["Class 4, conferencing", [["AF41", 34, "low drop"], ["AF42", 36, "medium drop"], ["AF43", 38, "high drop"]]],
  ["Class 3, streaming", [["AF31", 26, "low drop"], ["AF32", 28, "medium drop"], ["AF33", 30, "high drop"]]],
  ["Class 2", [["AF21", 18, "low drop"], ["AF22", 20, "medium drop"], ["AF23", 22, "high drop"]]],
  ["Class 1", [["AF11", 10, "low drop"], ["AF12", 12, "medium drop"], ["AF13", 14, "high drop"]]],
  [
    "Class selectors",
    [["CS2", 16, "class selector 2"], ["CS3", 24, "class selector 3"], ["CS4", 32, "class selector 4"], ["CS5", 40, "class selector 5"], ["CS6", 48, "network control"], ["CS7", 56, "class selector 7"]],
  ],
];

const NAMES = new Map(DSCP_GROUPS.flatMap(([, points]) => points.map(([name, value]) => [value, name])));

export const ECN = ["not-ect", "ect1", "ect0", "ce"];

/** What the two bits are called by people; the index is their value. */
export const ECN_NAMES = ["Not-ECT", "ECT(1)", "ECT(0)", "CE"];

/** The name of a DSCP, or its number. */
export const dscpName = (value) => (value == null ? NONE : NAMES.get(value) ?? String(value));

export const dscpOf = (tos) => (tos == null ? null : tos >> 2);

export const ecnOf = (tos) => (tos == null ? null : tos & 3);

/** A TOS byte: the DSCP, and ECN where there is any. */
export function tosText(tos) {
  if (tos == null) return NONE;
  const ecn = ecnOf(tos);
  return ecn === 0 ? dscpName(dscpOf(tos)) : `${dscpName(dscpOf(tos))} ${ECN_NAMES[ecn]}`;
}

/** A mark of a QoS test, `{dscp, ecn}`, as the command line takes it. */
export function markText({ dscp, ecn }) {
  if (ecn === "not-ect") return String(dscp);
  return dscp === "CS0" ? ecn : `${dscp}+${ecn}`;
}

export const CLASSES = ["stun", "dtls", "srtp", "srtcp"];

/** What a class is for those who do not know the name. */
export const CLASS_NAMES = {
  stun: "STUN (checks)",
  dtls: "DTLS (keys, data channels)",
  srtp: "SRTP (media)",
  srtcp: "SRTCP (reports)",
};
