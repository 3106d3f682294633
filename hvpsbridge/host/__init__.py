"""Operations on a Hyper-V host over PSRP."""
