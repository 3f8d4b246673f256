"""What filters respond to, and what a network looks at.

Public are `guided_backprop`, the image that a filter responds to; `filter_similarity`, how alike
the filters of a layer are (Figs. 1 and 9); and `grad_cam`, where a network finds its class, Fig. 8.
"""
