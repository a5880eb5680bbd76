"""Making a model do as one wishes: at sampling time, or for good."""
