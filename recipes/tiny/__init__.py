"""The embedded model `tiny`: made from nothing with `make tiny`.

corpus     the texts it reads, made from the tables of facts and the rules of the exercises
tokenizer  its byte-level BPE, with ChatML tokens and single digits
train      the training loop
"""
