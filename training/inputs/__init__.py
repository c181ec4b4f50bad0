"""From labelled clips to the arrays that a network is trained on."""
