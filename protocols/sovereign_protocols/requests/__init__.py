"""What the four money protocols share: messages of one shape, one question and one answer at a time.

*Request*: a message that asks. *Desk*: whatever answers it. *Caller*: who asks, as its connection and its
certificate prove. *Introduction*: how a node says hello.
"""
