"""Encoded pictures: headers, decoding, rules on what they show, perceptual hashes."""
